package config

import "github.com/pushd/pushd/topics"

// ReservedNamespace is the server's own: what nodes say of themselves. Nobody
// can configure it.
const ReservedNamespace = "_pushd"

// reserved is how it is served. What is missed there is repeated a second later.
var reserved = Namespace{Delivery: DeliveryLive, Interest: InterestNamespace, Public: PublicNone}

// longestNodeName keeps a node's topic far below what a topic may have, in bytes.
const longestNodeName = 64

// node checks what the node is to be called, since that becomes a token of its topic.
func (v *validator) node(name string) {
	if name == "" {
		return
	}
	if err := topics.CheckTopic(name); err != nil || topics.Namespace(name) != name || len(name) > longestNodeName {
		v.addf("node-name", "--node-name is %q, but must be one token of A-Z a-z 0-9 _ -, of at most %d", name, longestNodeName)
	}
}
