package main

import (
	"context"
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/doctor"
)

type doctorCommand struct {
	Flags  config.Flags `embed:""`
	Strict bool         `help:"Exit with 1 where something is a warning, too."`
}

// Run prints what it finds; a failure is an error.
func (c *doctorCommand) Run(ctx context.Context, parsed *kong.Context, p program) error {
	cfg, _, err := config.Load(parsed, &c.Flags)
	if err != nil {
		return err
	}
	warnings, failures, err := doctor.Write(p.stdout, doctor.Examine(ctx, doctor.Here(), &cfg))
	if err != nil {
		return err
	}
	if failures > 0 || c.Strict && warnings > 0 {
		return fmt.Errorf("doctor found %d failures and %d warnings", failures, warnings)
	}
	return nil
}
