package gitlabapitest

import (
	"strings"
	"testing"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestTurn(t *testing.T) {
	stages := []string{"build", "deploy"}
	build := func(status string, tolerated bool) *job {
		return &job{Status: status, Tolerated: tolerated, Definition: definition{Name: "build", Stage: "build", AllowFailure: tolerated}}
	}
	needs := []need{{Job: "build"}}
	for _, c := range []struct {
		name   string
		before *job
		job    definition
		want   string
	}{
		{"after success", build("success", false), definition{When: "on_success"}, "pending"},
		{"while one runs", build("running", false), definition{When: "always"}, ""},
		{"after failure", build("failed", false), definition{When: "on_success"}, "skipped"},
		{"after tolerated failure", build("failed", true), definition{When: "on_success"}, "pending"},
		{"always", build("failed", false), definition{When: "always"}, "pending"},
		{"on failure", build("failed", false), definition{When: "on_failure"}, "pending"},
		{"on failure, without one", build("success", false), definition{When: "on_failure"}, "skipped"},
		{"button", build("success", false), definition{When: "manual"}, "manual"},
		{"button after failure", build("failed", false), definition{When: "manual"}, "skipped"},
		{"a blocking button before", build("manual", false), definition{When: "on_success"}, ""},
		{"an optional button before", build("manual", true), definition{When: "on_success"}, "pending"},
		{"an optional button that is needed", build("manual", true), definition{When: "on_success", HasNeeds: true, Needs: needs}, ""},
		{"needs a skipped job", build("skipped", false), definition{When: "on_success", HasNeeds: true, Needs: needs}, "skipped"},
		{"needs nothing", build("running", false), definition{When: "on_success", HasNeeds: true}, "pending"},
	} {
		c.job.Name, c.job.Stage = "deploy", "deploy"
		j := &job{Status: "created", Definition: c.job}
		if got := turn(j, []*job{c.before, j}, stages); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestApplyInputs(t *testing.T) {
	const config = "spec:\n  inputs:\n    name: {regex: '^[a-z]+$'}\n    wide: {type: boolean, default: false}\n    list: {type: array, default: [], options: [a, b]}\n---\njob: {script: [x]}\n"
	for _, c := range []struct {
		given map[string]any
		want  string
	}{
		{map[string]any{"name": "orders", "wide": "true", "list": `["a"]`}, ""},
		{map[string]any{}, "`name` input: required value has not been provided"},
		{map[string]any{"name": "Orders"}, "`name` input: provided value does not match required RegEx pattern"},
		{map[string]any{"name": "x", "wide": "maybe"}, "`wide` input: provided value is not a boolean"},
		{map[string]any{"name": "x", "list": []any{"c"}}, "`list` input: `c` cannot be used because it is not in the list of allowed options"},
		{map[string]any{"name": "x", "other": 1}, "[other]"},
	} {
		out, problems := applyInputs([]byte(config), c.given)
		said := strings.Join(problems, "\n")
		if c.want == "" && said != "" || !strings.Contains(said, c.want) {
			t.Errorf("%v: %q, want %q", c.given, said, c.want)
		}
		if c.want == "" && (!strings.Contains(string(out), "default: orders") || !strings.HasSuffix(string(out), "---\njob: {script: [x]}\n")) {
			t.Errorf("written: %s", out)
		}
	}
	if out, problems := applyInputs([]byte("job: {script: [x]}\n"), nil); len(problems) > 0 || string(out) != "job: {script: [x]}\n" {
		t.Errorf("a file without a header: %s %v", out, problems)
	}
}

func TestParseDotenv(t *testing.T) {
	for data, ok := range map[string]bool{"A=1\nB=two words\n": true, "": true, "A=1\n\nB=2\n": false, "# note\n": false, "A-B=1\n": false, "A=" + strings.Repeat("x", 6000): false} {
		if _, err := parseDotenv(data); (err == nil) != ok {
			t.Errorf("%.20q: %v", data, err)
		}
	}
	if got, _ := parseDotenv(`A="1"`); got["A"] != `"1"` {
		t.Errorf("quotes are kept, as GitLab does: %v", got)
	}
}

func TestExpandTimeoutTier(t *testing.T) {
	env := map[string]string{"A": "x$B", "B": "y"}
	for in, want := range map[string]string{"$A-${B}": "xy-y", "${C}z": "z", "$": "$", "a$$": "a$$"} {
		if got := expand(in, env); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := expandKnown("https://$A.$C/${D}", env); got != "https://xy.$C/${D}" {
		t.Errorf("%q", got)
	}
	for in, want := range map[string]time.Duration{"": time.Hour, "90 minutes": 90 * time.Minute, "1h 30m": 90 * time.Minute, "30s": 30 * time.Second} {
		if got := (&definition{Timeout: in}).timeout(); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	for name, want := range map[string]string{"dev": "development", "stage": "staging", "prod": "production", "review/x": "development", "blue": "other"} {
		if got := tierOf(name, ""); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestTagsBadReportsAndTimeouts(t *testing.T) {
	i := startWithRunner(t)
	dir := i.commitFiles("nsflow/orders", map[string]string{".gitlab-ci.yml": `
tag: {rules: [{if: '$CI_COMMIT_TAG && $CI_COMMIT_BRANCH == null'}], script: ['echo tag $CI_COMMIT_TAG of "$CI_COMMIT_MESSAGE" branch "${CI_COMMIT_BRANCH:-none}"']}
report: {script: ['printf "# note\nA=1\n" > a.env'], artifacts: {reports: {dotenv: a.env}}}
slow: {script: ['sleep 300'], timeout: 2 seconds}
multi: {script: ['git commit --allow-empty -m x || echo no identity']}
`})
	mustGit(t, dir, "commit", "--quiet", "--amend", "-m", "costs $HOME\n\nit's \"quoted\"")
	mustGit(t, dir, "tag", "v1.0.0")
	mustGit(t, dir, "push", "--quiet", "origin", "v1.0.0")
	pl := i.latest(77)
	i.follow(pl.ID, nil)
	jobs := i.jobs(77, pl.ID)
	if jobs["tag"] == nil {
		t.Fatalf("%v", jobs)
	}
	for name, want := range map[string]string{"tag": "tag v1.0.0 of costs $HOME\n\nit's \"quoted\" branch none", "report": "400 Bad Request", "slow": "job_execution_timeout", "multi": "no identity"} {
		if log := i.log(77, jobs[name].ID); !strings.Contains(log, want) {
			t.Errorf("%s: %s\n%s", name, jobs[name].Status, log)
		}
	}
	if jobs["report"].Status != "failed" || jobs["slow"].Status != "failed" || jobs["slow"].FailureReason != "job_execution_timeout" {
		t.Errorf("report %s, slow %s %s", jobs["report"].Status, jobs["slow"].Status, jobs["slow"].FailureReason)
	}
	if tags, _, err := i.client.Pipelines.ListProjectPipelines(77, &gitlab.ListProjectPipelinesOptions{Ref: gitlab.Ptr("v1.0.0")}); err != nil || len(tags) != 1 {
		t.Errorf("%v %v", tags, err)
	}
}
