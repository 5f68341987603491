package auth

import (
	"crypto/x509"
)

// authenticateCertificate takes the chain for verified, and gives all the same
// rights. It holds for as long as the certificate does.
func authenticateCertificate(certificate *x509.Certificate, rights *Rights) (Grant, *Error) {
	identity := certificateIdentity(certificate)
	if err := CheckIdentity(identity); err != nil {
		return Grant{}, refuse(BadClaims, "the name in the client certificate %v: it must say who the client is", err)
	}
	return Grant{Identity: identity, Expires: certificate.NotAfter, Rights: rights}, nil
}

// certificateIdentity returns the first alternative name, of a URI before a
// host before a mailbox, else the common name, as it was before there were
// alternatives (RFC 6125 section 6.4.4).
func certificateIdentity(certificate *x509.Certificate) string {
	switch {
	case len(certificate.URIs) > 0:
		return certificate.URIs[0].String()
	case len(certificate.DNSNames) > 0:
		return certificate.DNSNames[0]
	case len(certificate.EmailAddresses) > 0:
		return certificate.EmailAddresses[0]
	}
	return certificate.Subject.CommonName
}
