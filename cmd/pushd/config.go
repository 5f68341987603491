package main

import (
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/pushd/pushd/internal/config"
)

type configCommand struct {
	Flags config.Flags `embed:""`
	Check string       `placeholder:"FILE" help:"Only check this file, by itself: no flag and no environment variable counts. The exit code is 0 where nothing is wrong, else 1."`
	Docs  bool         `help:"Only print the reference of all settings, as Markdown."`
}

// Run prints the settings or what there is to set, or checks a file.
func (c *configCommand) Run(parsed *kong.Context, p program) error {
	if c.Docs {
		return config.Document(p.stdout)
	}
	if c.Check != "" {
		if err := config.Check(c.Check); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.stdout, "%s is valid\n", c.Check)
		return err
	}
	cfg, sources, err := config.Load(parsed, &c.Flags)
	if err != nil {
		return err
	}
	return config.Write(p.stdout, &cfg, sources)
}
