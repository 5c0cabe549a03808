package gitlabapitest

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func TestSchedulesAreChecked(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x"})
	dora, rita, str := i.as(developerToken), i.as(releaseToken), gitlab.Ptr[string]
	create := func(c *gitlab.Client, ref, cron, zone string) (*gitlab.PipelineSchedule, *gitlab.Response, error) {
		return c.PipelineSchedules.CreatePipelineSchedule(77, &gitlab.CreatePipelineScheduleOptions{Description: str("nightly"), Ref: &ref, Cron: &cron, CronTimezone: &zone})
	}
	_, resp, err := create(rita, "main", "99 * * * *", "UTC")
	refused(t, "a line that is no cron", resp, err, 400, "{cron: [is invalid syntax]}")
	_, resp, err = create(rita, "main", "@every 1m", "UTC")
	refused(t, "a line that only our parser takes", resp, err, 400, "{cron: [is invalid syntax]}")
	_, resp, err = create(rita, "main", "0 1 * * *", "Mars/Olympus")
	refused(t, "a zone that is none", resp, err, 400, "cron_timezone: [is invalid syntax]")
	_, resp, err = create(rita, "gone", "0 1 * * *", "UTC")
	refused(t, "a ref that is none", resp, err, 400, "ref: [is ambiguous]")
	_, resp, err = create(dora, "main", "0 1 * * *", "UTC")
	refused(t, "a schedule on a branch that is not theirs", resp, err, 403, "403 Forbidden")
	_, resp, err = create(dora, "refs/heads/main", "0 1 * * *", "UTC")
	refused(t, "the same by its full name", resp, err, 403, "403 Forbidden")
	_, resp, err = dora.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: str("refs/heads/main")})
	refused(t, "a pipeline by the full name", resp, err, 400, "do not have sufficient permission to run a pipeline on 'main'")
	must[*gitlab.Tag](t)(dora.Tags.CreateTag(77, &gitlab.CreateTagOptions{TagName: str("main"), Ref: str("main")}))
	_, resp, err = i.client.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: str("main")})
	refused(t, "a pipeline on a name that two have", resp, err, 400, "Ref is ambiguous")
	_, resp, err = create(rita, "main", "0 1 * * *", "UTC")
	refused(t, "a schedule on a name that two have", resp, err, 400, "ref: [is ambiguous]")
	if _, err := rita.Tags.DeleteTag(77, "main"); err != nil {
		t.Fatal(err)
	}
	_, resp, err = rita.PipelineSchedules.CreatePipelineSchedule(77, &gitlab.CreatePipelineScheduleOptions{Cron: str("x")})
	refused(t, "a schedule of nothing", resp, err, 400, "can't be blank")

	made := must[*gitlab.PipelineSchedule](t)(create(rita, "main", "30 2 * * *", "Europe/Berlin"))
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if at := made.NextRunAt.In(berlin); at.Hour() != 2 || at.Minute() != 30 || made.Owner.Username != "rita" {
		t.Errorf("%v of %+v", at, made)
	}
	_, resp, err = dora.PipelineSchedules.EditPipelineSchedule(77, made.ID, &gitlab.EditPipelineScheduleOptions{Description: str("mine")})
	refused(t, "another's schedule is changed", resp, err, 403, "403 Forbidden")
	resp, err = dora.PipelineSchedules.RunPipelineSchedule(77, made.ID)
	refused(t, "a schedule is played on a branch that is not theirs", resp, err, 403, "403 Forbidden")
	_, resp, err = dora.PipelineSchedules.TakeOwnershipOfPipelineSchedule(77, made.ID)
	refused(t, "a developer takes a schedule over", resp, err, 403, "403 Forbidden")
	must[*gitlab.PipelineVariable](t)(rita.PipelineSchedules.CreatePipelineScheduleVariable(77, made.ID, &gitlab.CreatePipelineScheduleVariableOptions{Key: str("A"), Value: str("1")}))
	_, resp, err = rita.PipelineSchedules.CreatePipelineScheduleVariable(77, made.ID, &gitlab.CreatePipelineScheduleVariableOptions{Key: str("A"), Value: str("1")})
	refused(t, "a variable again", resp, err, 400, "has already been taken")
	if seen := must[*gitlab.PipelineSchedule](t)(dora.PipelineSchedules.GetPipelineSchedule(77, made.ID)); len(seen.Variables) != 0 {
		t.Errorf("another's variables are shown: %+v", seen.Variables)
	}
	owned := must[*gitlab.PipelineSchedule](t)(i.client.PipelineSchedules.TakeOwnershipOfPipelineSchedule(77, made.ID))
	if owned.Owner.Username != "root" || len(owned.Variables) != 1 {
		t.Errorf("%+v", owned)
	}
	off := must[*gitlab.PipelineSchedule](t)(i.client.PipelineSchedules.EditPipelineSchedule(77, made.ID, &gitlab.EditPipelineScheduleOptions{Active: gitlab.Ptr(false)}))
	if off.Active || off.NextRunAt != nil {
		t.Errorf("%+v", off)
	}
	for n := 1; n < 10; n++ {
		must[*gitlab.PipelineSchedule](t)(create(rita, "main", "0 1 * * *", "UTC"))
	}
	_, resp, err = create(rita, "main", "0 1 * * *", "UTC")
	refused(t, "a schedule too many", resp, err, 400, "exceeded")
}

// The clock starts a schedule's pipeline in its owner's name, with its inputs and variables; so does a person's play.
func TestSchedulesRun(t *testing.T) {
	i := startWithRunner(t)
	out := filepath.Join(t.TempDir(), "out")
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "spec: {inputs: {what: {default: nothing}}}\n---\n" +
		"job: {rules: [{if: '$CI_PIPELINE_SOURCE == \"schedule\"'}], script: ['echo $GITLAB_USER_LOGIN $[[ inputs.what ]] $KIND $CI_DEPLOY_FREEZE >> " + out + "-$CI_PIPELINE_ID']}\n"})
	rita, str := i.as(releaseToken), gitlab.Ptr[string]
	sc := must[*gitlab.PipelineSchedule](t)(rita.PipelineSchedules.CreatePipelineSchedule(77, &gitlab.CreatePipelineScheduleOptions{Description: str("backup"), Ref: str("main"), Cron: str("0 3 * * *"),
		Inputs: []*gitlab.PipelineInput{{Name: "what", Value: gitlab.NewPipelineInputValue("all")}}}))
	must[*gitlab.PipelineVariable](t)(rita.PipelineSchedules.CreatePipelineScheduleVariable(77, sc.ID, &gitlab.CreatePipelineScheduleVariableOptions{Key: str("KIND"), Value: str("full")}))
	ran := func(times int) string {
		t.Helper()
		var list []*gitlab.Pipeline
		i.await("the pipeline is there", func() bool {
			list = must[[]*gitlab.Pipeline](t)(rita.PipelineSchedules.ListPipelinesTriggeredBySchedule(77, sc.ID, nil))
			return len(list) == times
		})
		last := list[len(list)-1]
		i.follow(last.ID, nil)
		return strings.TrimSpace(i.waitFor(out + "-" + id(last.ID)))
	}
	i.control("PUT", "clock", map[string]any{"now": sc.NextRunAt})
	if got := ran(1); got != "rita all full" {
		t.Errorf("by the clock: %q", got)
	}
	after := must[*gitlab.PipelineSchedule](t)(rita.PipelineSchedules.GetPipelineSchedule(77, sc.ID))
	if !after.NextRunAt.After(*sc.NextRunAt) || after.LastPipeline == nil {
		t.Errorf("%+v", after)
	}
	must[*gitlab.FreezePeriod](t)(rita.FreezePeriods.CreateFreezePeriodOptions(77, &gitlab.CreateFreezePeriodOptions{FreezeStart: str("0 2 * * *"), FreezeEnd: str("0 5 * * *")}))
	if _, err := i.client.PipelineSchedules.RunPipelineSchedule(77, sc.ID); err != nil {
		t.Fatal(err)
	}
	if got := ran(2); got != "root all full true" {
		t.Errorf("by a person, in a freeze: %q", got)
	}
}

func TestFreezePeriods(t *testing.T) {
	i := start(t)
	rita, str := i.as(releaseToken), gitlab.Ptr[string]
	create := func(c *gitlab.Client, begin, end, zone string) (*gitlab.FreezePeriod, *gitlab.Response, error) {
		return c.FreezePeriods.CreateFreezePeriodOptions(77, &gitlab.CreateFreezePeriodOptions{FreezeStart: &begin, FreezeEnd: &end, CronTimezone: &zone})
	}
	_, resp, err := create(i.as(developerToken), "0 1 * * *", "0 2 * * *", "UTC")
	refused(t, "a developer freezes", resp, err, 403, "403 Forbidden")
	_, resp, err = create(rita, "often", "0 2 * * *", "UTC")
	refused(t, "a line that is no cron", resp, err, 400, "freeze_start: [is invalid syntax]")
	_, resp, err = rita.FreezePeriods.CreateFreezePeriodOptions(77, &gitlab.CreateFreezePeriodOptions{FreezeStart: str("0 1 * * *")})
	refused(t, "a freeze without an end", resp, err, 400, "freeze_end is missing")
	one := must[*gitlab.FreezePeriod](t)(create(rita, "0 23 * * 5", "0 7 * * 1", "America/New_York"))
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]bool{"2027-03-12 22:59": false, "2027-03-12 23:00": true, "2027-03-14 12:00": true, "2027-03-15 06:59": true, "2027-03-15 07:00": false} { // the 14th is 23 hours long
		now, err := time.ParseInLocation("2006-01-02 15:04", at, newYork)
		if err != nil {
			t.Fatal(err)
		}
		i.control("PUT", "clock", map[string]any{"now": now})
		i.mu.Lock()
		got := i.frozen(77)
		i.mu.Unlock()
		if got != want {
			t.Errorf("frozen at %s: %t", at, got)
		}
	}
	_, resp, err = rita.FreezePeriods.UpdateFreezePeriodOptions(77, one.ID, &gitlab.UpdateFreezePeriodOptions{CronTimezone: str("Nowhere")})
	refused(t, "a zone that is none", resp, err, 400, "cron_timezone: [is invalid syntax]")
	if _, err := rita.FreezePeriods.DeleteFreezePeriod(77, one.ID); err != nil {
		t.Fatal(err)
	}
	_, resp, err = rita.FreezePeriods.GetFreezePeriod(77, one.ID)
	refused(t, "a freeze that is gone", resp, err, 404, "404")
}
