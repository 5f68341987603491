package config

import "testing"

// TestReserved keeps the server's own namespace from being configured, and from
// what all others have by default.
func TestReserved(t *testing.T) {
	c := Default()
	c.Namespaces = map[string]Namespace{ReservedNamespace: {}, "_pushd2": Default().Default}
	const want = `"_pushd" under namespaces: is the server's own, and has no settings: choose another name`
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	c = Default()
	c.Default.Public, c.Default.Interest = PublicAll, InterestTopic
	if ns := c.Namespace(ReservedNamespace); ns.Public.MaySubscribe() || ns.Public.MayPublish() || ns.Interest != InterestNamespace || ns.KeepsHistory() {
		t.Errorf("it is served as %+v", ns)
	}
}
