package cmd

import (
	"os/exec"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/tool"
)

func TestOlder(t *testing.T) {
	a, b := strings.Repeat("a", 40), strings.Repeat("b", 40) // a comes before b
	ancestor := func(x, y string) bool { return x == a && y == b }
	for name, c := range map[string]struct {
		own, deployed origin
		refused       bool
	}{
		"the first deployment":                      {own: origin{77, 10, "main", a}},
		"an older pipeline of the ref":              {origin{77, 10, "main", a}, origin{77, 11, "main", b}, true},
		"the job of one pipeline again":             {origin{77, 10, "main", a}, origin{77, 10, "main", a}, false},
		"a newer pipeline":                          {origin{77, 12, "main", b}, origin{77, 11, "main", a}, false},
		"an older pipeline of the same commit":      {origin{77, 10, "main", a}, origin{77, 11, "main", a}, false},
		"a branch that was set back":                {origin{77, 12, "feature", a}, origin{77, 11, "feature", b}, false},
		"another ref, whose commit is contained":    {origin{77, 12, "release", a}, origin{77, 11, "main", b}, true},
		"another ref, whose commit is newer":        {origin{77, 10, "release", b}, origin{77, 11, "main", a}, false},
		"another project's pipeline has no order":   {origin{78, 10, "main", b}, origin{77, 11, "main", a}, false},
		"a person with an older checkout":           {origin{Commit: a}, origin{77, 11, "main", b}, true},
		"a person with a newer checkout":            {origin{Commit: b}, origin{77, 11, "main", a}, false},
		"a person without git":                      {origin{}, origin{77, 11, "main", b}, false},
		"a release by other means":                  {origin{77, 10, "main", a}, origin{}, false},
		"a release of a person with changes of his": {origin{77, 10, "main", a}, origin{Pipeline: 0}, false},
	} {
		err := older(c.own, c.deployed, ancestor)
		if got := tool.CodeOf(err) == tool.Refused; got != c.refused {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && len(tool.HintsOf(err)) == 0 {
			t.Errorf("%s: nothing is said of what to do", name)
		}
	}
}

func TestOriginOfHostileAnnotations(t *testing.T) {
	got := originOf(map[string]string{commitAnnotation: "--upload-pack=x", pipelineAnnotation: "1e9", projectAnnotation: "", refAnnotation: "main"})
	if got != (origin{Ref: "main"}) {
		t.Errorf("got %+v", got)
	}
}

func TestGitHistory(t *testing.T) {
	dir := t.TempDir()
	if head, clean := headOf(t.Context(), dir); head != "" || clean {
		t.Errorf("a folder without a repository has the commit %q (clean %v)", head, clean)
	}
	run := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	const commit = " && git add -A && git -c user.name=Bob -c user.email=bob@example.com commit --quiet -m change"
	run("git init --quiet -b main . && echo 1 > a" + commit)
	first, clean := headOf(t.Context(), dir)
	if len(first) != 40 || !clean {
		t.Fatalf("the first commit is %q (clean %v)", first, clean)
	}
	run("echo 2 > a" + commit)
	second, _ := headOf(t.Context(), dir)
	if !isAncestor(t.Context(), dir, first, second) || isAncestor(t.Context(), dir, second, first) {
		t.Error("the order of the two commits is not known")
	}
	if isAncestor(t.Context(), dir, first, strings.Repeat("0", 40)) || isAncestor(t.Context(), dir, "HEAD", second) {
		t.Error("a commit that is not there has an order")
	}
	run("echo 3 > untracked")
	if head, clean := headOf(t.Context(), dir); head != second || clean {
		t.Errorf("with a new file: %q (clean %v)", head, clean)
	}
}
