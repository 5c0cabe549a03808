package apply

import (
	"errors"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// TestCodesOfASet: the codes that say that nothing was changed, or that all is
// as before, are not those of a set of which something is deployed.
func TestCodesOfASet(t *testing.T) {
	for _, c := range []struct {
		status    string // of the other release
		code, end int
	}{
		{Deployed, tool.Failed, tool.Broken}, {Deployed, tool.Usage, tool.Broken}, {Deployed, tool.Refused, tool.Broken}, {Deployed, tool.Restored, tool.Broken},
		{Deployed, tool.Held, tool.Held}, {Deployed, tool.Temporary, tool.Temporary}, {Deployed, tool.Cancelled, tool.Cancelled}, {Deployed, tool.Denied, tool.Denied},
		{Unchanged, tool.Usage, tool.Usage}, {Unchanged, tool.Restored, tool.Restored}, {"skipped", tool.Failed, tool.Failed},
	} {
		s := &set{results: []Result{{Release: "a", Status: c.status}, {Release: "b", Status: Failed}}, errs: []error{nil, tool.Exit(c.code, errors.New("b is bad"), "mend b")}}
		err := s.ended()
		hints := strings.Join(tool.HintsOf(err), "\n")
		if tool.CodeOf(err) != c.end || !strings.Contains(err.Error(), "b is bad") || !strings.Contains(hints, "mend b") {
			t.Errorf("a is %s, b ends with %d: code %d, want %d; %v\n%s", c.status, c.code, tool.CodeOf(err), c.end, err, hints)
		}
		if told := strings.Contains(hints, "1 of 2 releases were deployed: a; run it again"); told != (c.status == Deployed) {
			t.Errorf("a is %s, and the hints are\n%s", c.status, hints)
		}
	}
	fine := &set{results: []Result{{Release: "a", Status: Deployed}}, errs: []error{nil}}
	if err := fine.ended(); err != nil {
		t.Error(err)
	}
}

// TestNamespaceThatStays: a release refused after its namespace was made has
// changed something.
func TestNamespaceThatStays(t *testing.T) {
	err := MadeFor("new", tool.Exit(tool.Usage, errors.New("spec.ports")))
	if tool.CodeOf(err) != tool.Broken || !strings.Contains(strings.Join(tool.HintsOf(err), ""), `namespace "new" was made`) {
		t.Errorf("code %d, hints %q", tool.CodeOf(err), tool.HintsOf(err))
	}
	if err := MadeFor("new", nil); err != nil {
		t.Error(err)
	}
}
