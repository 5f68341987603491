package doctor

import (
	"context"
	"time"

	"github.com/pushd/pushd/internal/auth"
)

// stale is an answer of a cache that brings new keys late: pushd asks every five minutes.
const stale = 10 * time.Minute

// keySet: that of --jwks-url can be fetched, is new, and has keys.
func (e *examination) keySet(ctx context.Context) {
	const subject = "--jwks-url"
	if e.cfg.JWKSURL == "" {
		return
	}
	began := e.Now()
	found, err := auth.InspectKeySet(ctx, e.cfg.JWKSURL)
	shown := auth.ShownURL(e.cfg.JWKSURL)
	if err != nil {
		e.badf(Failure, subject, "the URL, or what is between it and this machine: names, routes, proxies, certificate authorities", "%s: %v; until it answers, no token is accepted that only its keys verify", shown, err)
		return
	}
	took := e.Now().Sub(began)
	switch {
	case found.Keys == 0:
		e.badf(Failure, subject, "a set with public keys for RS256, ES256 or EdDSA", "%s has no key that verifies tokens", shown)
	case found.Age > stale:
		e.badf(Warning, subject, "a shorter max-age at the issuer, or no cache on the way", "%s has %d keys, of %v ago: a cache on the way keeps them, and a new key is known that late", shown, found.Keys, found.Age)
	default:
		e.okf(subject, "%s has %d keys", shown, found.Keys)
	}
	if !found.Certificate.IsZero() {
		e.expiryOfOthers(subject+" certificate", found.Certificate)
	}
	// A date has whole seconds, and was written while the request was under way.
	if ahead := found.Date.Sub(began); !found.Date.IsZero() && ahead.Abs() > took+time.Second+apart+e.cfg.TokenLeeway {
		e.badf(Warning, subject+" clock", "run chrony or systemd-timesyncd on both, or a larger --token-leeway", "differs from that of this machine by %v: tokens are refused as expired, or as not yet valid", ahead.Abs().Round(time.Second))
	}
}
