package box

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/tool"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// State is what Status knows of a part.
type State struct {
	Part   string
	Alive  bool
	Detail string
}

// Status reads the journal and looks which processes run. It takes no lock,
// so that it answers while `up` is at work.
func Status(cfg Config) ([]State, error) {
	path := filepath.Join(cfg.Dir, "journal.json")
	if !exists(path) {
		return nil, tool.Exit(tool.Pending, fmt.Errorf("no sandbox is at %s", cfg.Dir), "start it: sandbox up")
	}
	journal, err := process.OpenJournal(path)
	if err != nil {
		return nil, err
	}
	ports := journal.Ports()
	var out []State
	for _, p := range Parts(hasNodes(journal)) {
		if p.Command == nil {
			continue
		}
		s := State{Part: p.Name}
		if e, ok := journal.Entry(p.Name); ok && e.Alive() {
			s.Alive = true
			s.Detail = fmt.Sprintf("process %d", e.PID)
			for _, port := range p.Ports {
				s.Detail += fmt.Sprintf(", 127.0.0.1:%d", ports[port])
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b State) int { return strings.Compare(a.Part, b.Part) })
	return out, nil
}
