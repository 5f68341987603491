package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// access says who may connect, and what they may do. A nil access is that of a
// server without authentication: everybody may do everything.
type access struct {
	// Static.
	check      *auth.Service
	timeout    time.Duration  // for a client that came without a token to send one
	public     publicRights   // of everybody
	verdicts   *auth.Verdicts // of a service of the user's; nil: nobody is asked
	checks     *poller.Pool   // checks credentials, which may wait for keys: not the one that others wait for
	questions  *poller.Pool   // waits for verdicts; nil as they are
	identities *identities
	visitors   chan struct{}   // holds one for each check under way over HTTP, beside those of checks
	ctx        context.Context // of checks
	cancel     context.CancelFunc
}

const (
	// checkTimeout bounds one check, keys that have to be fetched included.
	checkTimeout = 5 * time.Second

	// checkQueue bounds the clients that wait for their check. After a restart
	// they all come at once.
	checkQueue = 8192

	// Questions that are under way at a time, and that wait.
	questionWorkers = 64
	questionQueue   = 1024

	// maxVerdicts bounds the answers that are remembered.
	maxVerdicts = 1 << 16
)

// openAccess makes what says who may do what, where the configuration has
// something to check credentials against.
func (s *Server) openAccess() error {
	check, err := auth.Open(authConfig(&s.cfg, s.log))
	if err != nil || check == nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.access = &access{
		ctx: ctx, cancel: cancel,
		check:      check,
		timeout:    s.cfg.AuthTimeout,
		public:     newPublicRights(&s.cfg),
		visitors:   make(chan struct{}, max(2, s.cfg.Workers)), // one may wait for keys
		checks:     poller.NewPool(s.cfg.Workers, checkQueue),
		identities: newIdentities(mostForIdentity(s.cfg.MaxConnectionsPerIdentity, s.quota.Max())),
	}
	if s.cfg.Authorize != "" {
		s.access.verdicts = auth.NewVerdicts(maxVerdicts, s.cfg.AuthorizeTimeout, s.askService)
		s.access.questions = poller.NewPool(questionWorkers, questionQueue)
	}
	return nil
}

// close waits for what is under way, which ends with the answer no.
func (a *access) close() {
	if a == nil {
		return
	}
	if a.verdicts != nil {
		a.verdicts.Close()
		a.questions.Close()
	}
	a.cancel() // else those who wait for keys would do so to the end of their time
	a.checks.Close()
	a.check.Close()
}

// mostForIdentity derives the bound where none is given: nobody takes all the room.
func mostForIdentity(asked, connections int) int {
	if asked > 0 {
		return asked
	}
	return max(connections/10, 256)
}

// publicRights is what everybody may do in a namespace.
type publicRights struct {
	named  map[string]config.Public
	others config.Public
	any    bool // there is something that everybody may do
}

func newPublicRights(cfg *config.Config) publicRights {
	p := publicRights{named: make(map[string]config.Public), others: cfg.Default.Public}
	p.any = p.others.MaySubscribe() || p.others.MayPublish()
	for name, ns := range cfg.Namespaces {
		p.named[name] = ns.Public
		p.any = p.any || ns.Public.MaySubscribe() || ns.Public.MayPublish()
	}
	return p
}

// allow reports whether everybody may. The first token of a pattern is literal,
// so a namespace is public for all that a pattern in it can match.
func (p *publicRights) allow(action auth.Action, topic string) bool {
	public, named := p.named[topics.Namespace(topic)]
	if !named {
		public = p.others
	}
	if action == auth.Publish {
		return public.MayPublish()
	}
	return public.MaySubscribe()
}

// decision is whether somebody may do something.
type decision uint8

const (
	no decision = iota
	yes
	perhaps // if the service says so, which has to be asked
)

// decide says whether somebody may. rights are nil of who has shown no token:
// for those nobody is asked. The topic or pattern is valid.
func (a *access) decide(rights *auth.Rights, action auth.Action, topic string) decision {
	switch {
	case topics.Namespace(topic) == config.ReservedNamespace:
		return decideReserved(rights, action, topic)
	case a == nil, a.public.allow(action, topic):
		return yes
	case rights == nil:
		return no
	case action == auth.Publish && rights.MayPublish(topic), action == auth.Subscribe && rights.MaySubscribe(topic):
		return yes
	case a.verdicts == nil:
		return no
	}
	return perhaps
}

// decideReserved says whether somebody may hear what nodes say of themselves:
// who has a permission that names it. Nobody else is asked, and nobody may speak
// in their place.
func decideReserved(rights *auth.Rights, action auth.Action, topic string) decision {
	if action == auth.Subscribe && rights != nil && rights.MaySubscribeByName(topic) {
		return yes
	}
	return no
}

// ask waits for the service's verdict.
func (s *Server) ask(ctx context.Context, q auth.Question) *wire.Error {
	allow, err := s.access.verdicts.Ask(ctx, q)
	switch {
	case allow:
		return nil
	case err == nil, errors.Is(err, errMalformed):
		return s.forbidden(q.Action, q.Topic, true)
	}
	s.metrics.forbidden.WithLabelValues(string(q.Action)).Inc()
	return &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("whether you may %s %q cannot be told now: try again", phrases[q.Action], q.Topic)}
}

// phrases are actions as a sentence has them.
var phrases = map[auth.Action]string{auth.Subscribe: "subscribe to", auth.Publish: "publish to"}

// forbidden counts a refusal, and makes what is told: the same whether there is
// such a topic or not.
func (s *Server) forbidden(action auth.Action, topic string, token bool) *wire.Error {
	s.metrics.forbidden.WithLabelValues(string(action)).Inc()
	lacking := "none of the token's permissions covers all of it"
	switch {
	case topics.Namespace(topic) == config.ReservedNamespace && action == auth.Publish:
		lacking = "it is the server's own"
	case topics.Namespace(topic) == config.ReservedNamespace:
		lacking = "it is the server's own, and no permission names it"
	case !token:
		lacking = "it is not public, and no token was sent"
	}
	return &wire.Error{Code: wire.Forbidden, Message: fmt.Sprintf("no permission to %s %q: %s", phrases[action], topic, lacking)}
}

// errMalformed is an answer of the service that is none. It counts as no.
var errMalformed = errors.New("the answer is not {\"allow\":true|false}")

// askService asks once, over NATS.
func (s *Server) askService(ctx context.Context, q auth.Question) (auth.Verdict, error) {
	body, err := json.Marshal(struct {
		Identity string      `json:"identity"`
		Action   auth.Action `json:"action"`
		Topic    string      `json:"topic"`
		Address  string      `json:"address"`
	}{q.Identity, q.Action, q.Topic, q.Address})
	if err != nil {
		return auth.Verdict{}, err
	}
	type answer struct {
		data []byte
		err  error
	}
	answers := make(chan answer, 1)
	if !s.bus.Request(body, s.cfg.AuthorizeTimeout, func(data []byte, err error) { answers <- answer{data, err} }) {
		return s.answered(q, auth.Verdict{}, natsbus.ErrBusy)
	}
	select {
	case a := <-answers:
		if a.err != nil {
			return s.answered(q, auth.Verdict{}, a.err)
		}
		verdict, err := readVerdict(a.data)
		return s.answered(q, verdict, err)
	case <-ctx.Done():
		return s.answered(q, auth.Verdict{}, ctx.Err())
	}
}

// answered counts and logs what became of a question.
func (s *Server) answered(q auth.Question, verdict auth.Verdict, err error) (auth.Verdict, error) {
	result := "deny"
	switch {
	case errors.Is(err, errMalformed):
		result = "malformed"
	case err != nil:
		result = "no_answer"
	case verdict.Allow:
		result = "allow"
	}
	s.metrics.questions.WithLabelValues(result).Inc()
	if s.debugs() {
		s.log.Debug("asked for permission", "identity", q.Identity, "action", q.Action, "topic", q.Topic, "result", result, "err", err)
	}
	return verdict, err
}

// maxVerdictSize is far beyond what an answer needs.
const maxVerdictSize = 4 << 10

// readVerdict reads {"allow":true,"ttl":"30s"}; ttl may be absent.
func readVerdict(data []byte) (auth.Verdict, error) {
	var answer struct {
		Allow *bool   `json:"allow"`
		TTL   *string `json:"ttl"`
	}
	if len(data) > maxVerdictSize || json.Unmarshal(data, &answer) != nil || answer.Allow == nil {
		return auth.Verdict{}, errMalformed
	}
	v := auth.Verdict{Allow: *answer.Allow}
	if answer.TTL != nil {
		var err error
		if v.TTL, err = time.ParseDuration(*answer.TTL); err != nil || v.TTL < 0 {
			return auth.Verdict{}, errMalformed
		}
	}
	return v, nil
}
