package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
)

// metrics is what /metrics shows. What the shards and the hub count themselves
// is read when it is asked for; the rest is counted here.
type metrics struct {
	server   *Server
	registry *prometheus.Registry

	loopLag   prometheus.Histogram
	fanOut    prometheus.Histogram
	commands  [wire.NumCommandTypes]prometheus.Counter
	refusals  *prometheus.CounterVec
	plainShed prometheus.Counter
	responses *prometheus.CounterVec
	history   *prometheus.CounterVec
	polls     *prometheus.CounterVec

	adminActions *prometheus.CounterVec
	adminRefused *prometheus.CounterVec

	auth      *prometheus.CounterVec // results of authentication
	forbidden *prometheus.CounterVec
	questions *prometheus.CounterVec // to the service that --authorize names
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		server:   s,
		registry: prometheus.NewRegistry(),
		loopLag: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pushd_loop_lag_seconds",
			Help:    "How late a shard's tick was: how long its loop was busy with something else.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}),
		fanOut: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pushd_fanout_seconds",
			Help:    "How long one message took from the first to the last of its subscribers in one shard.",
			Buckets: prometheus.ExponentialBuckets(0.00001, 4, 11)}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_command_errors_total",
			Help: "Error replies to clients' commands."}, []string{"code"}),
		plainShed: prometheus.NewCounter(prometheus.CounterOpts{Name: "pushd_http_shed_total",
			Help: "HTTP requests answered 503 because too many were under way."}),
		history: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_history_requests_total",
			Help: "Requests for a topic's history, by result: served, refused (wrong), failed (NATS did not answer, or too many at a time)."}, []string{"result"}),
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_polls_total",
			Help: "Requests for GET /poll that were answered, by result: messages, empty, refused."}, []string{"result"}),
		adminActions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_admin_actions_total",
			Help: "What operators had done over the admin listener."}, []string{"action"}),
		adminRefused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_admin_refused_total",
			Help: "Requests that the admin listener refused: unauthorized, no_token (its file cannot be read), bad_host, cross_site."}, []string{"reason"}),
	}
	m.responses = newRefusalsCounter()
	commands := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_commands_total",
		Help: "Well-formed commands of clients."}, []string{"type"})
	for t := range m.commands {
		if name := wire.CommandType(t).String(); t > 0 && name != "" {
			m.commands[t] = commands.WithLabelValues(name)
		}
	}
	m.addAccess()
	for _, result := range []string{historyServed, historyRefused, historyFailed} {
		m.history.WithLabelValues(result) // from the start, as below
	}
	for _, action := range []string{actDisconnectClient, actDisconnectIdentity, actDrain, actUndrain} {
		m.adminActions.WithLabelValues(action)
	}
	for _, result := range []string{pollMessages, pollEmpty, pollRefused} {
		m.polls.WithLabelValues(result)
	}
	m.registry.MustRegister(m.polls, m.loopLag, m.fanOut, m.refusals, m.plainShed, m.responses, m.history, m.adminActions, m.adminRefused, commands, m,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Series that are read from shards, hub and bus. Each is described here once.
var (
	descPresence      = desc("pushd_presence_topics", "Counts of other nodes' topics that are kept for presence; at most --presence-topics.")
	descUnkept        = desc("pushd_presence_unkept_total", "Counts of other nodes' topics that there was no room for.")
	descNodes         = desc("pushd_nodes", "Nodes of the cluster that are heard, this one included.")
	descDraining      = desc("pushd_draining", "1 from when a drain of this node was ordered.")
	descConnections   = desc("pushd_connections", "Upgraded connections now, and streams of events.")
	descByTransport   = desc("pushd_transport_connections", "Upgraded connections and streams of events and polls now, by transport: websocket, sse, poll.", "transport")
	descOpened        = desc("pushd_transport_connections_total", "Connections that were taken, by transport.", "transport")
	descSockets       = desc("pushd_sockets", "Sockets of clients now, those in handshake and closing included.")
	descMaxConns      = desc("pushd_connections_max", "Connections that are taken at most.")
	descAccepted      = desc("pushd_sockets_accepted_total", "Sockets taken from the listener.")
	descHandshakes    = desc("pushd_handshakes_total", "Handshakes by result: upgraded, shed (answered 503 at once), or why there was none.", "result")
	descCloses        = desc("pushd_connections_closed_total", "Upgraded connections that have ended, by reason.", "reason")
	descMessages      = desc("pushd_client_messages_total", "Messages received from clients.")
	descSentBytes     = desc("pushd_sent_bytes_total", "Bytes sent to clients.")
	descReceivedBytes = desc("pushd_received_bytes_total", "Bytes received from clients.")
	descAnswering     = desc("pushd_poll_unread_bytes", "Memory of answers to polls that clients have not taken; at most --poll-memory, and 4 KiB for each connection.")
	descReceiving     = desc("pushd_receive_bytes", "Memory of messages of which only a part has come; at most --receive-memory, and 4 KiB for each connection.")
	descPings         = desc("pushd_pings_sent_total", "Heartbeats sent.")
	descBlocked       = desc("pushd_sends_blocked_total", "Times that a client's socket took no more.")
	descAcceptPauses  = desc("pushd_accept_pauses_total", "Times that a listener rested because there were no file descriptors.")
	descThrottled     = desc("pushd_throttled_total", "Times that nothing more was read of a client, which had sent more than --max-byte-rate.")
	descAddresses     = desc("pushd_addresses", "Addresses of clients that are limited and connected now, or were a moment ago.")
	descDeliveries    = desc("pushd_deliveries_total", "Messages and gaps delivered to subscribers, by way: live, or catchup from the ring.", "way")
	descFellBehind    = desc("pushd_fell_behind_total", "Times that a subscriber fell behind in a feed.")
	descBehind        = desc("pushd_behind", "Subscribers that are behind in a feed now.")
	descGaps          = desc("pushd_gaps_total", "Gaps told to subscribers, by reason.", "reason")
	descSubscriptions = desc("pushd_subscriptions", "Subscriptions of connections now.")
	descPatterns      = desc("pushd_patterns", "Distinct topics and patterns that somebody is subscribed to now.")
	descFeeds         = desc("pushd_feeds", "Feeds that this node takes from NATS now.")
	descRingBytes     = desc("pushd_ring_bytes", "Memory of all rings, estimated as for --ring-memory.")
	descRingMessages  = desc("pushd_ring_messages", "Messages in all rings.")
	descRingGivenUp   = desc("pushd_ring_evictions_total", "Messages that rings gave up for newer ones.")
	descArrived       = desc("pushd_messages_total", "Messages from NATS, by whether somebody was subscribed.", "heard")
	descLost          = desc("pushd_upstream_losses_total", "Times that messages of a feed may have been lost on the way from NATS.")
	descRepairs       = desc("pushd_history_repairs_total", "Times that a feed read from its stream what had not arrived.")
	descRepeated      = desc("pushd_history_repeated_total", "Messages that arrived again, or after they had been read from their stream.")
	descRestarts      = desc("pushd_history_restarts_total", "Times that a stream was found to have begun anew.")
	descShared        = desc("pushd_history_shared_bytes", "Memory of what was read of streams for clients, estimated; at most a quarter of --ring-memory.")
	descReads         = desc("pushd_history_reads_total", "Direct gets from streams, by what they are for.", "urgency")
	descNATSUp        = desc("pushd_nats_connected", "1 while both connections to NATS stand.")
	descNATSReconnect = desc("pushd_nats_reconnects_total", "Times that a connection to NATS was restored.")
	descNATSPending   = desc("pushd_nats_pending_messages", "Messages that have arrived and wait for the hub.")
	descNATSDropped   = desc("pushd_nats_dropped_total", "Messages from NATS that were dropped, by reason.", "reason")
	descPublished     = desc("pushd_published_total", "Publications of clients that NATS has confirmed.")
	descStored        = desc("pushd_published_stored_total", "Of these, publications that their stream has stored.")
	descUnacked       = desc("pushd_publications_unacknowledged", "Publications that their stream has not answered yet.")
	descNATSDenied    = desc("pushd_nats_denied_total", "Subjects refused by the permissions of the NATS account.")
	descIdentities    = desc("pushd_identities", "Distinct identities that are connected now.")
	descTokenKeys     = desc("pushd_token_keys", "Keys that tokens are verified with now.")
	descKeyFetches    = desc("pushd_jwks_fetches_total", "Times that the key set of --jwks-url was fetched, by result: ok, failed.", "result")
	descCompressed    = desc("pushd_compressed_messages_total", "Messages that were compressed, once each for all who negotiated it.")
	descCompressedIn  = desc("pushd_compressed_bytes_in_total", "Bytes of those messages.")
	descCompressedOut = desc("pushd_compressed_bytes_out_total", "Bytes that they came to.")
	descPlain         = desc("pushd_http_connections", "Connections that HTTP requests have now.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector; what Collect sends speaks for itself.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := m.server

	var c conn.Counts
	var t topics.MemberCounts
	for _, sh := range s.shards {
		c.Add(sh.table.Counts())
		t.Add(sh.members.Counts())
	}
	s.collectTLS(out, &c)
	gauge(descConnections, float64(c.Open))
	gauge(descDraining, float64(boolInt(s.draining.ordered())))
	for over := range numTransports {
		opened, closed := s.countTransport(over)
		gauge(descByTransport, float64(opened-closed), over.String())
		count(descOpened, opened, over.String())
	}
	gauge(descSockets, float64(c.Sockets))
	gauge(descMaxConns, float64(s.quota.Max()))
	gauge(descReceiving, float64(s.receiving.Kept()))
	gauge(descAnswering, float64(s.answering.Kept()))
	count(descAccepted, c.Accepted)
	count(descHandshakes, c.Upgraded, "upgraded")
	count(descHandshakes, c.Shed, "shed")
	for r := range conn.NumReasons {
		if r != conn.ReasonNone { // all of them, from the start: a series that appears with its first event hides it from rate()
			count(descHandshakes, c.Refused[r], r.String())
			count(descCloses, c.Closed[r], r.String())
		}
	}
	count(descMessages, c.Messages)
	count(descSentBytes, c.BytesOut)
	count(descReceivedBytes, c.BytesIn)
	count(descPings, c.Pings)
	count(descBlocked, c.Blocked)
	count(descAcceptPauses, c.AcceptPauses)
	count(descThrottled, c.Throttled)
	gauge(descAddresses, float64(s.gate.Addresses()))
	count(descDeliveries, t.Deliveries, "live")
	count(descDeliveries, t.CaughtUp, "catchup")
	count(descFellBehind, t.FellBehind)
	gauge(descBehind, float64(t.Behind))
	gauge(descSubscriptions, float64(t.Subscriptions))
	for why := range topics.NumLossReasons {
		count(descGaps, t.Gaps[why], why.String())
	}

	h := s.hub.Counts()
	gauge(descPatterns, float64(h.Patterns))
	gauge(descFeeds, float64(h.Feeds))
	gauge(descRingBytes, float64(h.RingBytes))
	gauge(descRingMessages, float64(h.RingMessages))
	count(descRingGivenUp, h.GivenUp)
	count(descArrived, h.Messages-h.Unheard, "true")
	count(descArrived, h.Unheard, "false")
	count(descLost, h.Losses)
	count(descRepairs, h.Repairs)
	count(descRepeated, h.Repeated)
	count(descRestarts, h.Restarts)
	gauge(descShared, float64(h.SharedBytes))

	if s.encoder.deflater != nil {
		d := s.encoder.deflater.Counts()
		count(descCompressed, d.Messages)
		count(descCompressedIn, d.BytesIn)
		count(descCompressedOut, d.BytesOut)
	}

	if m := s.self(); m != nil {
		kept, unkept := m.peers.known.Counts()
		gauge(descPresence, float64(kept))
		count(descUnkept, unkept)
		gauge(descNodes, float64(1+len(m.peers.known.Nodes())))
	}

	b := s.bus.State()
	gauge(descNATSUp, float64(boolInt(b.Connected)))
	count(descNATSReconnect, b.Reconnects)
	gauge(descNATSPending, float64(b.Pending))
	for why, n := range b.Dropped {
		count(descNATSDropped, n, string(why))
	}
	for u := range topics.NumUrgencies {
		count(descReads, b.Gets[u], u.String())
	}
	count(descPublished, s.publishedByClients(b.Published))
	count(descStored, b.Acked)
	gauge(descUnacked, float64(b.Unacked))
	count(descNATSDenied, b.Denied)
	if s.access != nil {
		gauge(descIdentities, float64(s.access.identities.len()))
		keys := s.access.check.Stats()
		gauge(descTokenKeys, float64(keys.Keys))
		count(descKeyFetches, keys.Fetches, "ok")
		count(descKeyFetches, keys.FailedFetches, "failed")
	}
	s.collectTraces(count)
	if s.plain != nil {
		gauge(descPlain, float64(s.plain.open.Load()))
	}
}

// countTransport says how many connections of a transport were opened, and closed again.
func (s *Server) countTransport(over transport) (opened, closed uint64) {
	for _, sh := range s.shards {
		closed += sh.counted[over].closed.Load() // first: it never exceeds the other
		opened += sh.counted[over].opened.Load()
	}
	return opened, closed
}

// addAccess makes what counts who may do what, with all its series from the start.
func (m *metrics) addAccess() {
	m.auth = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_auth_total",
		Help: "Credentials that were checked, by result: ok, or why they were refused."}, []string{"result"})
	for _, reason := range []auth.Reason{auth.Missing, auth.Malformed, auth.TooLarge, auth.BadAlgorithm, auth.BadSignature, auth.UnknownKey,
		auth.Expired, auth.NotYetValid, auth.BadIssuer, auth.BadAudience, auth.BadClaims, auth.KeysAway} {
		m.auth.WithLabelValues(string(reason))
	}
	for _, result := range []string{authOK, authBusy, authIdentityFull, authOther, authConflict} {
		m.auth.WithLabelValues(result)
	}
	m.forbidden = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_forbidden_total",
		Help: "What clients wanted to do and had no permission for, by action."}, []string{"action"})
	for _, action := range []auth.Action{auth.Subscribe, auth.Publish} {
		m.forbidden.WithLabelValues(string(action))
	}
	m.questions = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_authorize_total",
		Help: "Questions to the service that --authorize names, by result; no_answer and malformed count as no."}, []string{"result"})
	for _, result := range []string{"allow", "deny", "no_answer", "malformed"} {
		m.questions.WithLabelValues(result)
	}
	m.registry.MustRegister(m.auth, m.forbidden, m.questions)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
