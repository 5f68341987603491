package main

import (
	"fmt"
	"strconv"

	"github.com/pushd/pushd/internal/auth"
)

type keyCommand struct {
	Name string `arg:"" help:"Who will have the key: the identity under which it publishes and subscribes."`
}

// Run prints a new key and what the configuration has to have of it. The key
// itself is kept nowhere.
func (c *keyCommand) Run(p program) error {
	if err := auth.CheckIdentity(c.Name); err != nil {
		return fmt.Errorf("the name %w", err)
	}
	plain, hash := auth.NewAPIKey()
	_, err := fmt.Fprintf(p.stdout, `# The key, shown this once: send it as Authorization: Bearer KEY
# %s

# The file of --config: add to the list that is there, and say what the key may do.
api_keys:
  - name: %s
    hash: %s
    publish: []
    subscribe: []
`, plain, strconv.Quote(c.Name), hash)
	return err
}
