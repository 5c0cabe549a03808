package gitlabapitest

import (
	"testing"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestPeriod(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"2 days": 48 * time.Hour, "1 week and 3 hours": 171 * time.Hour, "45 minutes": 45 * time.Minute, "1 day, 1 min": 24*time.Hour + time.Minute, "never": 0, "": 0, "soon enough": 0,
	} {
		if got := period(text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

// An environment is stopped by the job that its last deployment names: on demand, and by the clock. Where there is
// none, or by force, it is stopped at once.
func TestEnvironmentsAreStopped(t *testing.T) {
	i := startWithRunner(t)
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": `stages: [deploy]
up: {stage: deploy, script: ["true"], environment: {name: review/one, on_stop: down, auto_stop_in: 2 days}}
down: {stage: deploy, script: [echo stopping], rules: [{when: manual, allow_failure: true}], environment: {name: review/one, action: stop}}
`})
	pipeline := i.latest(77).ID
	env := func() *gitlab.Environment {
		t.Helper()
		list := must[[]*gitlab.Environment](t)(i.client.Environments.ListEnvironments(77, &gitlab.ListEnvironmentsOptions{Name: gitlab.Ptr("review/one")}))
		if len(list) != 1 {
			t.Fatalf("%d environments", len(list))
		}
		return list[0]
	}
	deployed := func() {
		t.Helper()
		i.follow(pipeline, nil)
		if e := env(); e.State != "available" || e.AutoStopAt == nil || e.AutoStopAt.Sub(i.now()).Round(time.Hour) != 48*time.Hour {
			t.Fatalf("deployed: %+v", e)
		}
	}
	stopped := func(how string, status string) {
		t.Helper()
		i.follow(pipeline, nil)
		if j := i.jobs(77, pipeline)["down"]; j.Status != status || env().State != "stopped" {
			t.Errorf("%s: the job is %s, the environment %s", how, j.Status, env().State)
		}
	}
	deployed()
	must[*gitlab.Environment](t)(i.client.Environments.StopEnvironment(77, env().ID, &gitlab.StopEnvironmentOptions{Force: gitlab.Ptr(true)}))
	stopped("by force", "manual")
	again := func() {
		t.Helper()
		must[*gitlab.Job](t)(i.client.Jobs.RetryJob(77, i.jobs(77, pipeline)["up"].ID))
		deployed()
	}
	again()
	must[*gitlab.Environment](t)(i.client.Environments.StopEnvironment(77, env().ID, nil))
	stopped("on demand", "success")
	again()
	i.control("PUT", "clock", map[string]any{"now": i.now().Add(49 * time.Hour)})
	for deadline := time.Now().Add(20 * time.Second); env().State == "available" && time.Now().Before(deadline); {
		i.follow(pipeline, nil)
	}
	stopped("by the clock", "success")
}
