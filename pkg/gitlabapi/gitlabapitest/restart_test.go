package gitlabapitest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// TestMain runs a server instead of the tests in a process that is started for that, so that it can be killed.
func TestMain(m *testing.M) {
	file := os.Getenv("GITLABAPITEST_SERVE")
	if file == "" {
		m.Run()
		return
	}
	if err := serveUntilKilled(file); err != nil {
		panic(err)
	}
}

func serveUntilKilled(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var config Config
	if err := json.Unmarshal(data, &config); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config.Endpoint = "http://" + l.Addr().String()
	s, err := New(config)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, config.Endpoint)
	return http.Serve(l, s)
}

// serveElsewhere starts a server as a process of its own; stop kills it.
func serveElsewhere(t *testing.T, config Config) *instance {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GITLABAPITEST_SERVE="+file)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	i := &instance{t: t, stop: func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}}
	t.Cleanup(i.stop)
	if _, err := fmt.Fscanln(out, &i.endpoint); err != nil {
		t.Fatal(err)
	}
	i.client = i.as(adminToken)
	return i
}

func TestStateOutlivesTheServer(t *testing.T) {
	i := start(t)
	i.push("nsflow/orders", map[string]string{"README.md": "x"})
	if _, _, err := i.client.GenericPackages.PublishPackageFile(42, "p", "v", "f", strings.NewReader("kept"), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.client.Projects.EditProject(78, &gitlab.EditProjectOptions{CIIdTokenSubClaimComponents: &[]string{"project_id"}}); err != nil {
		t.Fatal(err)
	}
	rita, str := i.as(releaseToken), gitlab.Ptr[string]
	must[*gitlab.ProjectVariable](t)(rita.ProjectVariables.CreateVariable(77, &gitlab.CreateProjectVariableOptions{Key: str("KEY"), Value: str("kept")}))
	must[*gitlab.FreezePeriod](t)(rita.FreezePeriods.CreateFreezePeriodOptions(77, &gitlab.CreateFreezePeriodOptions{FreezeStart: str("0 1 * * *"), FreezeEnd: str("0 2 * * *")}))
	must[*gitlab.PipelineSchedule](t)(rita.PipelineSchedules.CreatePipelineSchedule(77, &gitlab.CreatePipelineScheduleOptions{Description: str("kept"), Ref: str("main"), Cron: str("0 1 * * *")}))
	i.protectEnv(gitlab.ProtectRepositoryEnvironmentsOptions{Name: str("prod"), DeployAccessLevels: roleOf(gitlab.MaintainerPermissions)})
	if _, err := rita.ProtectedBranches.UnprotectRepositoryBranches(77, "main"); err != nil {
		t.Fatal(err)
	}
	i.branchWith(rita, 77, "change", "b", "x")
	i.control("PUT", "merge_checks", map[string]bool{"held": true})
	mr := i.request(rita, 77, "change") // is being checked when the server stops
	must[*gitlab.Note](t)(rita.Notes.CreateMergeRequestNote(77, mr.IID, &gitlab.CreateMergeRequestNoteOptions{Body: str("kept")}))
	must[*gitlab.Release](t)(rita.Releases.CreateRelease(77, &gitlab.CreateReleaseOptions{TagName: str("v1"), Ref: str("main")}))
	bot := must[*gitlab.ProjectAccessToken](t)(i.client.ProjectAccessTokens.CreateProjectAccessToken(77, &gitlab.CreateProjectAccessTokenOptions{Name: str("bot"), Scopes: &[]string{"read_api"}}))
	for _, path := range []string{"dev/lock", "dev?ID=one"} {
		if code, _, body := i.tf("POST", path, strings.Replace(lockOf("one"), "{", `{"serial":1,`, 1), "rita", releaseToken); code != 200 {
			t.Fatalf("%d %s", code, body)
		}
	}
	i.control("PUT", "limits", map[string]any{"notes_create": limit{Requests: 1, Seconds: 3600}})
	i.control("PUT", "clock", map[string]any{"now": i.now().AddDate(0, 0, 2)})
	moved := i.now()
	key := i.keyID
	i.stop()
	i = serve(t, i.config, listen(t))
	rita = i.as(releaseToken)
	if i.now().Before(moved) {
		t.Error("the clock has gone back")
	}
	if v := must[*gitlab.ProjectVariable](t)(rita.ProjectVariables.GetVariable(77, "KEY", nil)); v.Value != "kept" {
		t.Errorf("%+v", v)
	}
	for what, n := range map[string]int{
		"freezes":      len(must[[]*gitlab.FreezePeriod](t)(rita.FreezePeriods.ListFreezePeriods(77, nil))),
		"schedules":    len(must[[]*gitlab.PipelineSchedule](t)(rita.PipelineSchedules.ListPipelineSchedules(77, nil))),
		"environments": len(must[[]*gitlab.ProtectedEnvironment](t)(rita.ProtectedEnvironments.ListProtectedEnvironments(77, nil))),
		"notes":        len(must[[]*gitlab.Note](t)(rita.Notes.ListMergeRequestNotes(77, mr.IID, nil))),
		"releases":     len(must[[]*gitlab.Release](t)(rita.Releases.ListReleases(77, nil))),
	} {
		if n != 1 {
			t.Errorf("%d %s", n, what)
		}
	}
	if b := must[[]*gitlab.ProtectedBranch](t)(rita.ProtectedBranches.ListProtectedBranches(77, nil)); len(b) != 0 {
		t.Errorf("a protection is back: %+v", b[0])
	}
	if got := i.mergeable(77, mr.IID); got != "mergeable" {
		t.Errorf("the request is %s", got)
	}
	_, resp, err := i.as(bot.Token).Projects.EditProject(77, &gitlab.EditProjectOptions{Description: str("x")})
	refused(t, "a scope after the restart", resp, err, 403, "insufficient_scope")
	if code, _, body := i.tf("POST", "dev/lock", lockOf("two"), "root", adminToken); code != 409 || !strings.Contains(body, `"ID":"one"`) {
		t.Errorf("a lock after the restart: %d %s", code, body)
	}
	must[*gitlab.Note](t)(rita.Notes.CreateMergeRequestNote(77, mr.IID, &gitlab.CreateMergeRequestNoteOptions{Body: str("one")}))
	_, resp, err = rita.Notes.CreateMergeRequestNote(77, mr.IID, &gitlab.CreateMergeRequestNoteOptions{Body: str("two")})
	refused(t, "a limit after the restart", resp, err, 429, "too many times")
	if i.keyID != key {
		t.Error("the signing key is another one")
	}
	if data, _, err := i.client.GenericPackages.DownloadPackageFile(42, "p", "v", "f"); err != nil || string(data) != "kept" {
		t.Errorf("%q, %v", data, err)
	}
	if p, _, err := i.client.Projects.GetProject(78, nil); err != nil || len(p.CIIdTokenSubClaimComponents) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if b, _, err := i.client.Branches.ListBranches(77, nil); err != nil || len(b) != 2 {
		t.Errorf("%v, %v", b, err)
	}
}

// A server that dies leaves its jobs running: the next one watches those that live, and fails those that do not.
func TestRestartSettlesRunningJobs(t *testing.T) {
	needRunner(t)
	config := testConfig(t, t.TempDir())
	dir := t.TempDir()
	gate, file := filepath.Join(dir, "gate"), filepath.Join(dir, "dead")
	mustRun(t, "mkfifo", gate)
	first := serveElsewhere(t, config)
	first.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "alive: {script: ['echo $CI_JOB_TOKEN > " + dir + "/alive', 'read line < " + gate + "', 'echo $line']}\ndead: {script: ['echo $$ > " + file + "', 'sleep 300']}\n"})
	pl := first.latest(77)
	token := strings.TrimSpace(first.waitFor(filepath.Join(dir, "alive")))
	first.waitFor(file)

	first.stop() // by kill -9: nothing of it tells its jobs to end
	second := serve(t, config, listen(t))
	for _, j := range second.jobs(77, pl.ID) {
		if j.Status != "running" {
			t.Errorf("%s is %s after the restart", j.Name, j.Status)
		}
	}
	jobClient, err := gitlab.NewJobClient(token, gitlab.WithBaseURL(second.endpoint), gitlab.WithoutRetries())
	if err != nil {
		t.Fatal(err)
	}
	if j, _, err := jobClient.Jobs.GetJobTokensJob(nil); err != nil || j.Name != "alive" {
		t.Errorf("the job's token is not known any more: %v", err)
	}
	second.mu.Lock()
	var group int
	for _, r := range second.running {
		if second.st.Jobs[r.job].Definition.Name == "dead" {
			group = r.pid
		}
	}
	second.mu.Unlock()
	if err := syscall.Kill(-group, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "sh", "-c", "echo went on with "+token+" > "+gate)
	second.follow(pl.ID, nil)
	jobs := second.jobs(77, pl.ID)
	if log := second.log(77, jobs["alive"].ID); jobs["alive"].Status != "success" || !strings.Contains(log, "went on with [MASKED]") {
		t.Errorf("alive is %s\n%s", jobs["alive"].Status, log)
	}
	if jobs["dead"].Status != "failed" {
		t.Errorf("dead is %s", jobs["dead"].Status)
	}
}

// What a job was told to do, and the time it has, outlive the server: a cancelled job that does not listen is killed
// by the next one, and the timeout of a job goes on.
func TestRestartEndsJobsThatShould(t *testing.T) {
	needRunner(t)
	config := testConfig(t, t.TempDir())
	// The runner does not listen either: of one that ends by itself, the next server only has to clear up.
	config.Runner.Command = append([]string{"sh", "-c", `trap "" TERM; "$@" || sleep 1000`, "sh"}, config.Runner.Command...)
	dir := t.TempDir()
	deaf, late := filepath.Join(dir, "deaf"), filepath.Join(dir, "late")
	first := serveElsewhere(t, config)
	first.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "deaf: {script: [\"trap '' TERM; echo $$ > " + deaf + "; sleep 1000\"]}\nlate: {timeout: 15 seconds, script: ['echo $$ > " + late + "', 'sleep 1000']}\n"})
	pl := first.latest(77)
	first.waitFor(deaf)
	first.waitFor(late)
	must[*gitlab.Job](t)(first.client.Jobs.CancelJob(77, first.jobs(77, pl.ID)["deaf"].ID, nil))
	first.stop()
	second := serve(t, config, listen(t))
	second.follow(pl.ID, nil)
	jobs := second.jobs(77, pl.ID)
	if jobs["deaf"].Status != "canceled" {
		t.Errorf("the cancelled job is %s", jobs["deaf"].Status)
	}
	if jobs["late"].Status != "failed" || jobs["late"].FailureReason != "job_execution_timeout" {
		t.Errorf("the job whose time is up is %s: %s", jobs["late"].Status, jobs["late"].FailureReason)
	}
}

func TestResourceGroupsTakeTurns(t *testing.T) {
	i := startWithRunner(t)
	log := filepath.Join(t.TempDir(), "log")
	job := "{stage: test, resource_group: dev, script: ['echo in >> " + log + "; sleep 0.3; echo out >> " + log + "']}\n"
	i.push("nsflow/orders", map[string]string{".gitlab-ci.yml": "a: " + job + "b: " + job + "c: " + job})
	events := i.follow(i.latest(77).ID, nil)
	waited := false
	for _, e := range events {
		waited = waited || e.Status == "waiting_for_resource"
	}
	out, err := exec.Command("cat", log).Output()
	if err != nil || strings.Join(strings.Fields(string(out)), " ") != "in out in out in out" || !waited {
		t.Errorf("%s, %v, %v", out, err, events)
	}
}

func TestPushesThatStartNothing(t *testing.T) {
	i := startWithRunner(t)
	config := "workflow: {rules: [{if: '$CI_COMMIT_BRANCH == \"quiet\"', when: never}, {when: always}]}\na: {script: ['true']}\n"
	dir := i.commitFiles("nsflow/orders", map[string]string{".gitlab-ci.yml": config})
	mustGit(t, dir, "push", "--quiet", "-o", "ci.skip", "origin", "HEAD:main")
	mustGit(t, dir, "push", "--quiet", "origin", "HEAD:refs/heads/quiet")
	if list, _, err := i.client.Pipelines.ListProjectPipelines(77, nil); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	if _, resp, err := i.client.Pipelines.CreatePipeline(77, &gitlab.CreatePipelineOptions{Ref: gitlab.Ptr("quiet")}); err == nil || resp.StatusCode != 400 || !strings.Contains(err.Error(), "workflow rules") {
		t.Errorf("%v", err)
	}
	i.add(dir, map[string]string{"x": "1"}, "nothing to see [skip ci]")
	mustGit(t, dir, "push", "--quiet", "origin", "HEAD:main")
	if pl := i.latest(77); pl.Status != "skipped" {
		t.Errorf("pipeline is %s", pl.Status)
	}
	mustGit(t, dir, "tag", "v1.0.0")
	mustGit(t, dir, "push", "--quiet", "origin", "v1.0.0")
	if pl := i.latest(77); pl.Ref != "v1.0.0" || pl.Status != "skipped" { // the same commit, so the same wish
		t.Errorf("tag: %+v", pl)
	}
	i.add(dir, map[string]string{"y": "1"}, "to see")
	mustGit(t, dir, "push", "--quiet", "origin", "HEAD:main")
	pl := i.latest(77)
	i.follow(pl.ID, nil)
	jobs := i.jobs(77, pl.ID)
	again, _, err := i.client.Jobs.RetryJob(77, jobs["a"].ID)
	if err != nil || again.ID == jobs["a"].ID || strconv.FormatInt(again.Pipeline.ID, 10) != id(pl.ID) {
		t.Fatalf("%+v, %v", again, err)
	}
	i.follow(pl.ID, nil)
	if got := i.jobs(77, pl.ID)["a"]; got.ID != again.ID || got.Status != "success" {
		t.Errorf("%+v", got)
	}
}
