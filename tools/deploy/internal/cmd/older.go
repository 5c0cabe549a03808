package cmd

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// origin is what a release was made from: by its job's verified ID token, by
// its bundle, or by the checkout of a person.
type origin struct {
	Project, Pipeline int64 // 0 for a person
	Ref, Commit       string
}

// note writes the origin beside the other annotations of the chart. The commit
// is noted by who knows that it is the whole truth.
func (o origin) note(chart *helmrelease.Chart) {
	if o.Pipeline == 0 {
		return
	}
	chart.Annotate(projectAnnotation, strconv.FormatInt(o.Project, 10))
	chart.Annotate(pipelineAnnotation, strconv.FormatInt(o.Pipeline, 10))
	chart.Annotate(refAnnotation, o.Ref)
}

var fullCommit = regexp.MustCompile(`^[0-9a-f]{40,64}$`)

// originOf reads what is noted of a stored revision. Whoever may write releases
// may write anything there, so what has not the right form counts as nothing.
func originOf(annotations map[string]string) origin {
	number := func(name string) int64 {
		n, err := strconv.ParseInt(annotations[name], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	o := origin{Project: number(projectAnnotation), Pipeline: number(pipelineAnnotation), Ref: annotations[refAnnotation]}
	if c := annotations[commitAnnotation]; fullCommit.MatchString(c) {
		o.Commit = c
	}
	return o
}

// notOlder returns the check that an older commit does not replace a newer
// one. It is made under the release's lease: another pipeline may have been
// waited for. The environments project's desired state judges where there is one.
func notOlder(ctx context.Context, own origin, dir string) func(helmrelease.State) error {
	return func(s helmrelease.State) error {
		if s.Deployed == nil {
			return nil
		}
		return older(own, originOf(s.Deployed.Annotations), func(a, b string) bool { return isAncestor(ctx, dir, a, b) })
	}
}

// older refuses what is older than what is deployed. Of two pipelines of one
// ref the number tells, since a branch may be set back on purpose; otherwise
// the history does, where the checkout has it. Unknown is not older.
func older(own, deployed origin, ancestor func(a, b string) bool) error {
	if own.Commit == deployed.Commit || deployed.Commit == "" {
		return nil
	}
	sameRef := own.Pipeline != 0 && deployed.Pipeline != 0 && own.Project == deployed.Project && own.Ref == deployed.Ref
	switch {
	case sameRef && own.Pipeline < deployed.Pipeline:
		return tool.Exit(tool.Refused, fmt.Errorf("deploying commit %s of pipeline %d: commit %s of the newer pipeline %d is deployed",
			short(own.Commit), own.Pipeline, short(deployed.Commit), deployed.Pipeline), goBack)
	case !sameRef && own.Commit != "" && ancestor(own.Commit, deployed.Commit):
		return tool.Exit(tool.Refused, fmt.Errorf("deploying commit %s: the deployed commit %s is newer, and contains it", short(own.Commit), short(deployed.Commit)), goBack)
	}
	return nil
}

const goBack = "to go back on purpose, revert the change in Git, or use slipway-deploy rollback; to go on, run the newest pipeline of the branch"

func short(commit string) string { return commit[:min(len(commit), 12)] }

// isAncestor asks git whether b contains a. No git, no repository or a clone
// that is too shallow mean no.
func isAncestor(ctx context.Context, dir, a, b string) bool {
	if !fullCommit.MatchString(a) || !fullCommit.MatchString(b) {
		return false
	}
	_, err := git(ctx, dir, "merge-base", "--is-ancestor", a, b)
	return err == nil
}

// checkedOut says where files of a folder come from: of a job, what its ID
// token says; of a person, what git says. The commit is empty where it is not
// all that is released.
func checkedOut(ctx context.Context, s *session.Session, dir string) (from origin, commit string) {
	if s.CI.InJob {
		id := s.Identity
		return origin{Project: id.ProjectID, Pipeline: id.PipelineID, Ref: id.Ref, Commit: id.Commit}, id.Commit
	}
	head, clean := headOf(ctx, dir)
	if clean {
		commit = head
	}
	return origin{Commit: head}, commit
}

// headOf returns the commit that is checked out in dir, and whether the files
// there are that commit's. Without git or a repository it is "".
func headOf(ctx context.Context, dir string) (commit string, clean bool) {
	head, err := git(ctx, dir, "rev-parse", "HEAD")
	if err != nil || !fullCommit.MatchString(head) {
		return "", false
	}
	changes, err := git(ctx, dir, "status", "--porcelain", "--", ".")
	return head, err == nil && changes == ""
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return "", errors.New("there is no git")
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
