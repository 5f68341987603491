package config

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// Keys of the file that say who may do what.
const (
	keyAPIKeys      = "api_keys"
	keyCertificates = "client_certificates"
)

// apiKeys reads a list of mappings, one for each key.
func (f *file) apiKeys(node ast.Node, keys *[]APIKey) {
	f.sources[keyAPIKeys] = f.at(node)
	*keys = nil
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		if _, null := node.(*ast.NullNode); !null {
			f.failf(node, "%s: must be a list of mappings, each as pushd key NAME prints it", keyAPIKeys)
		}
		return
	}
	for i, element := range list.Values {
		var k APIKey
		path := fmt.Sprintf("%s[%d]", keyAPIKeys, i)
		f.sources[path] = f.at(element)
		f.mapping(path, element, settings(&k), nil)
		*keys = append(*keys, k)
	}
}

// certificates reads what those with a client certificate may do.
func (f *file) certificates(node ast.Node, into **Permissions) {
	f.sources[keyCertificates] = f.at(node)
	p := &Permissions{}
	f.mapping(keyCertificates, node, settings(p), nil)
	*into = p
}

// identities prints who may do what.
func (p *printer) identities(c *Config) {
	for _, secret := range []struct { // no keys of a file
		variable, source string
		value            Secret
	}{{envAdminToken, "admin-token", c.AdminToken}, {envTokenSecret, envTokenSecret, c.TokenSecret}} {
		if secret.value != "" {
			p.line(fmt.Sprintf("# %s: %v", secret.variable, secret.value), p.sources.of(secret.source))
		}
	}
	if len(c.APIKeys) > 0 {
		p.line(keyAPIKeys+":", "")
	}
	for i, k := range c.APIKeys {
		path := fmt.Sprintf("%s[%d]", keyAPIKeys, i)
		for n, s := range settings(&k) {
			dash := "  "
			if n == 0 {
				dash = "- "
			}
			p.line("  "+dash+s.Name+": "+text(s.Target), p.sources.of(join(path, s.Name)))
		}
	}
	if c.ClientCertificates != nil {
		p.head(keyCertificates)
		for _, s := range settings(c.ClientCertificates) {
			p.value(keyCertificates, s)
		}
	}
}
