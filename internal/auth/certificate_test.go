package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestCertificates(t *testing.T) {
	i := keysOf()
	uri, err := url.Parse("spiffe://example.org/billing")
	if err != nil {
		t.Fatal(err)
	}
	plain, hash := NewAPIKey()
	s := openService(t, Config{
		Certificates: &Permissions{Subscribe: []string{"a.>"}, Publish: []string{"b"}},
		APIKeys:      []APIKey{{Name: "by key", Hash: hash}},
	})
	all := func(c *x509.Certificate) {
		c.URIs, c.DNSNames, c.EmailAddresses = []*url.URL{uri}, []string{"host.example", "other.example"}, []string{"a@example.org"}
	}
	for _, test := range []struct {
		want   string // "": refused
		change func(c *x509.Certificate)
	}{
		{"common", func(*x509.Certificate) {}},
		{"spiffe://example.org/billing", all},
		{"host.example", func(c *x509.Certificate) { all(c); c.URIs = nil }},
		{"a@example.org", func(c *x509.Certificate) { all(c); c.URIs, c.DNSNames = nil, nil }},
		{"", func(c *x509.Certificate) { c.Subject.CommonName = "" }},
		{"", func(c *x509.Certificate) { c.Subject.CommonName = "a\x00b" }},
		{"", func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("a", 257) }},
	} {
		certificate := selfSigned(t, i.ec, test.change)
		grant, err := s.Authenticate(context.Background(), Credentials{Certificate: certificate})
		var refused *Error
		switch {
		case test.want == "":
			if !errors.As(err, &refused) || refused.Reason != BadClaims {
				t.Errorf("%q: %+v, %v", certificate.Subject, grant, err)
			}
		case err != nil || grant.Identity != test.want || !grant.Expires.Equal(certificate.NotAfter) || !grant.Rights.MaySubscribe("a.b") || !grant.Rights.MayPublish("b"):
			t.Errorf("%+v, %v; want %s", grant, err, test.want)
		}
	}

	// A bearer comes first, whether it is good or not.
	both := Credentials{Certificate: selfSigned(t, i.ec, all), Bearer: plain}
	if grant, err := s.Authenticate(context.Background(), both); err != nil || grant.Identity != "by key" {
		t.Errorf("%+v, %v", grant, err)
	}
	both.Bearer += "0"
	if grant, err := s.Authenticate(context.Background(), both); err == nil {
		t.Errorf("a certificate makes up for a bad key: %+v", grant)
	}

	// Where certificates are no credentials they are as good as none.
	s = openService(t, Config{Secret: testSecret})
	var refused *Error
	if _, err := s.Authenticate(context.Background(), Credentials{Certificate: both.Certificate}); !errors.As(err, &refused) || refused.Reason != Missing {
		t.Error(err)
	}
	if _, err := Open(Config{Certificates: &Permissions{Subscribe: []string{"a b"}}}); err == nil || !strings.HasPrefix(err.Error(), "client_certificates: subscribe: ") {
		t.Error(err)
	}
	if s, err := Open(Config{Issuer: "a", Audience: "b"}); s != nil || err != nil {
		t.Errorf("a service without a source: %v", err)
	}
}
