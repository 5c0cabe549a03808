package chain_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"gitlab.com/slipway/slipway/sandbox/internal/chain"
)

const ordersProject = "nsflow/orders"

// reviews is a merge request of orders, seen from GitLab and from the cluster.
type reviews struct {
	*testing.T
	c       *chain.Chain
	api     *gitlab.Client
	cluster *kubernetes.Clientset
}

// must ends the test on an error of GitLab's.
func must[V any](t *testing.T) func(V, *gitlab.Response, error) V {
	return func(v V, _ *gitlab.Response, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func reviewsOf(t *testing.T, c *chain.Chain) *reviews {
	t.Helper()
	api, err := gitlab.NewClient(c.Box.GitLab.Token, gitlab.WithBaseURL(c.Box.GitLab.Endpoint))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Box.Clusters["nonprod"].Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return &reviews{t, c, api, kubernetes.NewForConfigOrDie(cfg)}
}

// propose opens a merge request that changes the greeting.
func (r *reviews) propose(branch string) *gitlab.MergeRequest {
	r.Helper()
	must[*gitlab.Commit](r.T)(r.api.Commits.CreateCommit(ordersProject, &gitlab.CreateCommitOptions{Branch: &branch, StartBranch: gitlab.Ptr("main"), CommitMessage: &branch,
		Actions: []*gitlab.CommitActionOptions{{Action: gitlab.Ptr(gitlab.FileUpdate), FilePath: gitlab.Ptr("values.yaml"), Content: gitlab.Ptr("replicas: 1\ngreeting: " + branch + "\n")}}}))
	return must[*gitlab.MergeRequest](r.T)(r.api.MergeRequests.CreateMergeRequest(ordersProject, &gitlab.CreateMergeRequestOptions{SourceBranch: &branch, TargetBranch: gitlab.Ptr("main"), Title: &branch}))
}

// follow follows the newest pipeline of the merge request, and returns its job.
func (r *reviews) follow(ctx context.Context, mr *gitlab.MergeRequest, name string) chain.Job {
	r.Helper()
	list := must[[]*gitlab.PipelineInfo](r.T)(r.api.MergeRequests.ListMergeRequestPipelines(ordersProject, mr.IID, nil))
	if len(list) == 0 {
		r.Fatalf("!%d has no pipeline", mr.IID)
	}
	jobs, err := r.c.Follow(ctx, "orders", list[0].ID)
	if err != nil {
		r.Fatal(err)
	}
	job, err := chain.Find(jobs, name)
	if err != nil {
		r.Fatal(err)
	}
	if job.Status != "success" {
		r.Fatalf("%s is %s (%d):\n%s", name, job.Status, job.ExitCode, r.c.Trace(ctx, job))
	}
	return job
}

// namespace returns the app's namespace, nil where there is none.
func (r *reviews) namespace(ctx context.Context, mr *gitlab.MergeRequest) *corev1.Namespace {
	r.Helper()
	ns, err := r.cluster.CoreV1().Namespaces().Get(ctx, fmt.Sprintf("orders-mr-%d", mr.IID), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		r.Fatal(err)
	}
	return ns
}

// reviewApp: a merge request is deployed into a namespace of its own, by a role
// that only branches which are not protected may assume; its note is written
// once and changed by the next commit; closing it takes everything away.
func reviewApp(ctx context.Context, t *testing.T, c *chain.Chain) {
	r := reviewsOf(t, c)
	bot := must[*gitlab.ProjectAccessToken](t)(r.api.ProjectAccessTokens.CreateProjectAccessToken(ordersProject, &gitlab.CreateProjectAccessTokenOptions{
		Name: gitlab.Ptr("diff notes"), Scopes: &[]string{"api"}, AccessLevel: gitlab.Ptr(gitlab.ReporterPermissions), ExpiresAt: gitlab.Ptr(gitlab.ISOTime(time.Now().AddDate(0, 0, 7)))}))
	must[*gitlab.ProjectVariable](t)(r.api.ProjectVariables.CreateVariable(ordersProject, &gitlab.CreateProjectVariableOptions{
		Key: gitlab.Ptr("SLIPWAY_GITLAB_TOKEN"), Value: &bot.Token, Masked: gitlab.Ptr(true)}))
	t.Cleanup(func() { _, _ = r.api.ProjectVariables.RemoveVariable(ordersProject, "SLIPWAY_GITLAB_TOKEN", nil) })
	mr := r.propose("hello-from-a-branch")
	r.follow(ctx, mr, "review")
	r.follow(ctx, mr, "diff")
	if ns := r.namespace(ctx, mr); ns == nil || ns.Labels["slipway.dev/service"] != "orders" {
		t.Errorf("the app's namespace is %v", ns)
	}
	env := must[[]*gitlab.Environment](t)(r.api.Environments.ListEnvironments(ordersProject, &gitlab.ListEnvironmentsOptions{Name: gitlab.Ptr(fmt.Sprintf("review/mr-%d", mr.IID))}))
	if len(env) != 1 || env[0].ExternalURL != fmt.Sprintf("https://orders-mr-%d.review.example.com", mr.IID) {
		t.Errorf("the environment is %+v", env)
	}
	must[*gitlab.Commit](t)(r.api.Commits.CreateCommit(ordersProject, &gitlab.CreateCommitOptions{Branch: gitlab.Ptr("hello-from-a-branch"), CommitMessage: gitlab.Ptr("again"),
		Actions: []*gitlab.CommitActionOptions{{Action: gitlab.Ptr(gitlab.FileUpdate), FilePath: gitlab.Ptr("values.yaml"), Content: gitlab.Ptr("replicas: 1\ngreeting: again\n")}}}))
	r.follow(ctx, mr, "diff")
	var notes []string
	for _, n := range must[[]*gitlab.Note](t)(r.api.Notes.ListMergeRequestNotes(ordersProject, mr.IID, nil)) {
		if strings.Contains(n.Body, "slipway-deploy diff: orders in dev") {
			notes = append(notes, n.Body)
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "again") || strings.Contains(notes[0], "hello-from-a-branch") {
		t.Errorf("the notes are %q, want one, of the last commit", notes)
	}
	must[*gitlab.MergeRequest](t)(r.api.MergeRequests.UpdateMergeRequest(ordersProject, mr.IID, &gitlab.UpdateMergeRequestOptions{StateEvent: gitlab.Ptr("close")}))
	r.follow(ctx, mr, "stop-review")
	if ns := r.namespace(ctx, mr); ns != nil {
		t.Errorf("after the merge request was closed, namespace %s is %s", ns.Name, ns.Status.Phase)
	}
}

// forgottenApp: an app whose merge request was closed while its stop job could
// not run is found and removed by the platform's schedule, and nothing else is
// done by it.
func forgottenApp(ctx context.Context, t *testing.T, c *chain.Chain) {
	r := reviewsOf(t, c)
	mr := r.propose("forgotten")
	r.follow(ctx, mr, "review")
	// GitLab thinks that it is stopped, so closing it runs nothing.
	env := must[[]*gitlab.Environment](t)(r.api.Environments.ListEnvironments(ordersProject, &gitlab.ListEnvironmentsOptions{Name: gitlab.Ptr(fmt.Sprintf("review/mr-%d", mr.IID))}))
	must[*gitlab.Environment](t)(r.api.Environments.StopEnvironment(ordersProject, env[0].ID, &gitlab.StopEnvironmentOptions{Force: gitlab.Ptr(true)}))
	must[*gitlab.MergeRequest](t)(r.api.MergeRequests.UpdateMergeRequest(ordersProject, mr.IID, &gitlab.UpdateMergeRequestOptions{StateEvent: gitlab.Ptr("close")}))
	if r.namespace(ctx, mr) == nil {
		t.Fatal("the app was stopped: there is nothing to forget")
	}
	const platform = "nsflow/platform"
	sc := must[*gitlab.PipelineSchedule](t)(r.api.PipelineSchedules.CreatePipelineSchedule(platform, &gitlab.CreatePipelineScheduleOptions{
		Description: gitlab.Ptr("sweep"), Ref: gitlab.Ptr("main"), Cron: gitlab.Ptr("0 3 * * *")}))
	t.Cleanup(func() { _, _ = r.api.PipelineSchedules.DeletePipelineSchedule(platform, sc.ID) })
	before, err := c.Newest(ctx, "platform")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.api.PipelineSchedules.RunPipelineSchedule(platform, sc.ID); err != nil {
		t.Fatal(err)
	}
	pipeline := before
	for tries := 0; pipeline == before; tries++ { // it is played in the background, as on GitLab
		if tries == 300 {
			t.Fatal("the schedule made no pipeline")
		}
		<-time.After(100 * time.Millisecond)
		if pipeline, err = c.Newest(ctx, "platform"); err != nil {
			t.Fatal(err)
		}
	}
	jobs, err := c.Follow(ctx, "platform", pipeline)
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) != 1 || jobs[0].Name != "sweep" || jobs[0].Status != "success" {
		t.Fatalf("the schedule ran %+v", jobs)
	}
	if log := c.Trace(ctx, jobs[0]); r.namespace(ctx, mr) != nil || !strings.Contains(log, "its merge request is closed") {
		t.Errorf("the sweep left the app:\n%s", log)
	}
}
