package auth

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// KeySetInspection is what a fetch of a key set tells of it.
type KeySetInspection struct {
	Keys        int           // that tokens can be verified with
	Age         time.Duration // for which a cache on the way has held the answer; 0: it is new, or nobody says
	Date        time.Time     // by the clock of who answers; zero: not said
	Certificate time.Time     // when that of the server ends; zero: no TLS
}

// InspectKeySet fetches the key set of a URL once, as a [Service] does.
func InspectKeySet(ctx context.Context, address string) (KeySetInspection, error) {
	if err := CheckKeySetURL(address); err != nil {
		return KeySetInspection{}, err
	}
	keys, response, err := fetchKeys(ctx, newFetcher(), address)
	if err != nil {
		return KeySetInspection{}, err
	}
	found := KeySetInspection{Keys: len(keys)}
	if seconds, err := strconv.ParseUint(response.Header.Get("Age"), 10, 31); err == nil { // RFC 9111 section 5.1
		found.Age = time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		found.Date = date.Add(found.Age) // of a cached answer it is that of its making
	}
	if response.TLS != nil {
		found.Certificate = response.TLS.PeerCertificates[0].NotAfter
	}
	return found, nil
}
