// Package compile checks a landscape offline and writes its snapshot.
package compile

import (
	"encoding/json"
	"fmt"
	"os"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Options are the inputs of a compilation.
type Options struct {
	Source *landscape.Source
	Out    string // file for the snapshot; none where empty
}

// Run compiles the landscape with what its files say. Ids and keys that only
// the live organisation knows stay empty; apply publishes the full snapshot.
func Run(run *tool.Run, o Options) error {
	s, err := landscape.Compile(o.Source, landscape.Known{})
	if err != nil {
		return err
	}
	digest, err := s.Digest()
	if err != nil {
		return err
	}
	run.Report.Landscape = digest
	if o.Out != "" {
		raw, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding the snapshot: %w", err)
		}
		if err := os.WriteFile(o.Out, append(raw, '\n'), 0o644); err != nil {
			return fmt.Errorf("writing the snapshot: %w", err)
		}
	}
	return run.Result(s, fmt.Sprintf("landscape %s is sound: %d accounts, %d clusters, %d environments, %d services, %d roles\n%s",
		s.Name, len(s.Accounts), len(s.Clusters), len(s.Environments), len(s.Services), len(s.Roles), digest))
}
