package apply

import (
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// history makes revisions of "status" or "status:description"; a + declares
// its migrations contract.
func history(states ...string) []helmrelease.Revision {
	var out []helmrelease.Revision
	for i, s := range states {
		s, contract := strings.CutSuffix(s, "+")
		status, description, _ := strings.Cut(s, ":")
		if description == "" {
			description = map[bool]string{true: "Upgrade failed", false: "Upgrade complete"}[status == "failed"]
		}
		r := helmrelease.Revision{Number: i + 1, Status: status, Description: description, Annotations: map[string]string{}}
		if contract {
			r.Annotations[helmrelease.MigrationsAnnotation] = "contract"
		}
		out = append(out, r)
	}
	return out
}

func TestChoose(t *testing.T) {
	for name, c := range map[string]struct {
		history []helmrelease.Revision
		to      int
		want    int // revision
		code    int
	}{
		"the one before":                        {history("superseded", "deployed"), 0, 1, 0},
		"failed ones are passed over":           {history("superseded", "failed", "superseded:Upgrade \"x\" failed: no", "deployed"), 0, 1, 0},
		"one that failed and is left":           {history("superseded", "deployed", "failed"), 0, 2, 0},
		"what was brought back stays behind":    {history("superseded", "superseded", "failed", "deployed:Rollback to 2"), 0, 1, 0},
		"rolled back twice goes on to the past": {history("superseded", "superseded", "deployed:Rollback to 1"), 0, 0, tool.Failed},
		"nothing before":                        {history("deployed"), 0, 0, tool.Failed},
		"never ready":                           {history("failed", "failed"), 0, 0, tool.Failed},
		"not installed":                         {nil, 0, 0, tool.Failed},
		"a named one":                           {history("superseded", "superseded", "deployed"), 1, 1, 0},
		"a named one that failed":               {history("superseded", "failed", "deployed"), 2, 0, tool.Refused},
		"a named one that is not there":         {history("superseded", "deployed"), 7, 0, tool.Usage},
		"the one that runs":                     {history("superseded", "deployed"), 2, 0, tool.Usage},
		"one that helm described otherwise":     {history("superseded:as Bob asked", "deployed"), 1, 1, 0},
	} {
		got, err := choose("orders", c.history, c.to)
		if got.Number != c.want || tool.CodeOf(err) != c.code {
			t.Errorf("%s: revision %d, error %v; want %d, code %d", name, got.Number, err, c.want, c.code)
		}
	}
}

func TestCrosses(t *testing.T) {
	for name, c := range map[string]struct {
		history []helmrelease.Revision
		target  int
		refused bool
	}{
		"expand only":                        {history("superseded", "deployed"), 1, false},
		"the present one contracted":         {history("superseded", "deployed+"), 1, true},
		"one in between did":                 {history("superseded", "superseded+", "deployed"), 1, true},
		"one that failed may have":           {history("superseded", "failed+", "deployed:Rollback to 1"), 1, true},
		"the target did, long ago":           {history("superseded", "superseded+", "deployed"), 2, false},
		"it was brought back since":          {history("superseded", "superseded+", "superseded", "superseded:Rollback to 2+", "deployed"), 2, false},
		"the target is one brought back":     {history("superseded", "superseded+", "superseded:Rollback to 1", "deployed"), 3, true},
		"a named one after the contract one": {history("superseded+", "superseded", "deployed"), 2, false},
	} {
		err := crosses(c.history, c.history[c.target-1])
		if (err != nil) != c.refused || c.refused && tool.CodeOf(err) != tool.Refused {
			t.Errorf("%s: error %v", name, err)
		}
	}
	known := history("superseded", "deployed+")
	known[1].Annotations[helmrelease.BackupAnnotation] = "orders-20261127"
	if hints := tool.HintsOf(crosses(known, known[0])); len(hints) != 1 || !strings.Contains(hints[0], "orders-20261127") {
		t.Errorf("the backup is not named: %v", hints)
	}
}
