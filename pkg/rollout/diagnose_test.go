package rollout

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

func waiting(reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
}

func podWith(s corev1.ContainerStatus) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "orders-1", UID: "p"},
		Spec:   corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "app", Image: "r/orders@sha256:1"}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{s}}}
}

func event(uid, reason, message string) *corev1.Event {
	return &corev1.Event{InvolvedObject: corev1.ObjectReference{UID: types.UID(uid)}, Reason: reason, Message: message, LastTimestamp: metav1.Now()}
}

func TestDiagnose(t *testing.T) {
	oom := corev1.ContainerStatus{Name: "app", RestartCount: 3, State: waiting("CrashLoopBackOff", "").State,
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}}}
	crashed := corev1.ContainerStatus{Name: "app", RestartCount: 2, State: waiting("CrashLoopBackOff", "").State,
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}}}
	onceRestarted := corev1.ContainerStatus{Name: "app", RestartCount: 1, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	ofJob := podWith(crashed)
	ofJob.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	pending := podWith(corev1.ContainerStatus{})
	pending.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes are available"}}
	failed := func(reason string, s ...corev1.ContainerStatus) Evidence {
		p := podWith(corev1.ContainerStatus{})
		p.Spec.RestartPolicy, p.Status = corev1.RestartPolicyNever, corev1.PodStatus{Phase: corev1.PodFailed, Reason: reason, ContainerStatuses: s}
		return Evidence{Live: p, Pods: []*corev1.Pod{p}}
	}
	over := func(code int32, reason string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}}}
	}
	for name, c := range map[string]struct {
		evidence  Evidence
		class     string
		grace     time.Duration
		transient bool
		text      string
	}{
		"image missing":        {Evidence{Pods: []*corev1.Pod{podWith(waiting("ErrImagePull", "failed to resolve: not found"))}}, ClassImage, 0, false, "does not exist"},
		"back-off keeps cause": {Evidence{Pods: []*corev1.Pod{podWith(waiting("ImagePullBackOff", "Back-off pulling image"))}, Events: []*corev1.Event{event("p", "Failed", "Failed to pull image: manifest unknown")}}, ClassImage, 0, false, "does not exist"},
		"registry is slow":     {Evidence{Pods: []*corev1.Pod{podWith(waiting("ErrImagePull", "dial tcp: i/o timeout"))}}, ClassImage, time.Minute, false, "timeout"},
		"registry has no name": {Evidence{Pods: []*corev1.Pod{podWith(waiting("ErrImagePull", "lookup r: no such host: not found"))}}, ClassImage, time.Minute, false, "no such host"},
		"registry denies":      {Evidence{Pods: []*corev1.Pod{podWith(waiting("ErrImagePull", "401 Unauthorized"))}}, ClassImage, 0, false, "credentials"},
		"image name":           {Evidence{Pods: []*corev1.Pod{podWith(waiting("InvalidImageName", "x"))}}, ClassImage, 0, false, "not valid"},
		"secret missing":       {Evidence{Pods: []*corev1.Pod{podWith(waiting("CreateContainerConfigError", `secret "db" not found`))}}, ClassConfig, 15 * time.Second, false, `secret "db" not found`},
		"crash loop":           {Evidence{Pods: []*corev1.Pod{podWith(crashed)}}, ClassCrash, 0, false, "exit code 3"},
		"out of memory":        {Evidence{Pods: []*corev1.Pod{podWith(oom)}}, ClassMemory, 0, false, "memory"},
		"one restart is none":  {Evidence{Pods: []*corev1.Pod{podWith(onceRestarted)}}, "", 0, false, ""},
		"a job tries again":    {Evidence{Pods: []*corev1.Pod{ofJob}}, ClassCrash, 0, true, "exit code 3"},
		"no node":              {Evidence{Pods: []*corev1.Pod{pending}}, ClassSchedule, 2 * time.Minute, false, "0/3 nodes"},
		"autoscaler at work":   {Evidence{Pods: []*corev1.Pod{pending}, Events: []*corev1.Event{event("p", "TriggeredScaleUp", "")}}, ClassSchedule, 2 * time.Minute, true, "0/3 nodes"},
		"quota": {Evidence{ReplicaSets: []*appsv1.ReplicaSet{{Status: appsv1.ReplicaSetStatus{Conditions: []appsv1.ReplicaSetCondition{
			{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Message: `pods "x" is forbidden: exceeded quota: tenant`}}}}}}, ClassAdmission, 2 * time.Second, false, "exceeded quota"},
		"webhook is away": {Evidence{ReplicaSets: []*appsv1.ReplicaSet{{Status: appsv1.ReplicaSetStatus{Conditions: []appsv1.ReplicaSetCondition{
			{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Message: `failed calling webhook: connection refused`}}}}}}, ClassAdmission, 30 * time.Second, false, "connection refused"},
		"refused stateful set": {Evidence{Live: &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: "s"}}, Events: []*corev1.Event{event("s", "FailedCreate", "violates PodSecurity")}}, ClassAdmission, 2 * time.Second, false, "PodSecurity"},
		"failed job": {Evidence{Live: &batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{
			{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded"}}}}}, ClassJob, 0, false, "BackoffLimitExceeded"},
		"failed hook":         {failed("", over(0, "Completed"), over(3, "Error")), ClassCrash, 0, false, "exit code 3"},
		"hook out of memory":  {failed("", over(137, "OOMKilled")), ClassMemory, 0, false, "memory"},
		"hook does not start": {failed("", over(128, "StartError")), ClassConfig, 0, false, "StartError"},
		"evicted hook":        {failed("Evicted"), ClassNode, 0, false, "no controller makes another: Evicted"},
		"old event":           {Evidence{Live: &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{UID: "s"}}, Start: time.Now().Add(time.Hour), Events: []*corev1.Event{event("s", "FailedCreate", "x")}}, "", 0, false, ""},
	} {
		c.evidence.Workload = Ref{"apps/v1", "Deployment", "dev", "orders"}
		got := Diagnose(c.evidence)
		if c.class == "" {
			if len(got) > 0 {
				t.Errorf("%s: %s, want nothing", name, got[0].Sentence())
			}
			continue
		}
		if len(got) == 0 {
			t.Errorf("%s: nothing found", name)
			continue
		}
		f := got[0]
		if f.Class != c.class || f.Grace != c.grace || f.Transient != c.transient || !strings.Contains(f.Sentence(), c.text) || f.Next == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestPatience: what may pass by itself does not end a patient wait, and is
// told all the same; what cannot pass ends each.
func TestPatience(t *testing.T) {
	crashed := waiting("CrashLoopBackOff", "")
	oom := crashed
	oom.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
	hook := podWith(corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3}}})
	hook.Status.Phase = corev1.PodFailed
	late := &appsv1.Deployment{Status: appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}}}
	for name, c := range map[string]struct {
		evidence Evidence
		ends     bool // a patient wait
	}{
		"crash":         {Evidence{Pods: []*corev1.Pod{podWith(crashed)}}, false},
		"deadline":      {Evidence{Live: late}, false},
		"memory":        {Evidence{Pods: []*corev1.Pod{podWith(oom)}}, true},
		"missing image": {Evidence{Pods: []*corev1.Pod{podWith(waiting("ErrImagePull", "not found"))}}, true},
		"failed pod":    {Evidence{Live: hook}, true},
	} {
		for _, patient := range []bool{false, true} {
			v := &wait{options: Options{Patient: patient}, first: map[string]time.Time{}}
			v.result.Findings = v.options.lenient(Diagnose(c.evidence))
			_, over, _ := v.verdict(time.Now())
			if want := !patient || c.ends; over != want || len(v.result.Findings) == 0 {
				t.Errorf("%s, patient %t: ended %t, want %t; findings %+v", name, patient, over, want, v.result.Findings)
			}
		}
	}
}

func TestSentence(t *testing.T) {
	f := Finding{Workload: Ref{"apps/v1", "Deployment", "dev", "orders"}, Container: "app", Message: "it ended", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Next: "read its log"}
	if got, want := f.Sentence(), `container "app" of Deployment dev/orders: it ended (since 03:04:05 UTC); read its log`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRules(t *testing.T) {
	two := int32(2)
	deploy := func(s appsv1.DeploymentStatus) *appsv1.Deployment {
		s.ObservedGeneration = 3
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: appsv1.DeploymentSpec{Replicas: &two}, Status: s}
	}
	done := deploy(appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2})
	for name, c := range map[string]struct {
		evidence  Evidence
		wanted    int64
		completed bool
		want      bool
	}{
		"absent":            {Evidence{}, 0, false, false},
		"done":              {Evidence{Live: done}, 3, false, true},
		"older than asked":  {Evidence{Live: done}, 4, false, false},
		"old pods left":     {Evidence{Live: deploy(appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 2, AvailableReplicas: 2})}, 3, false, false},
		"one available":     {Evidence{Live: deploy(appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 1})}, 3, false, false},
		"job complete":      {Evidence{Live: &batchv1.Job{Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}}}}, 0, false, true},
		"hook pod ready":    {Evidence{Live: &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}}, 0, true, false},
		"hook pod done":     {Evidence{Live: &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}}, 0, true, true},
		"claim waits":       {Evidence{Live: &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: "c"}}, Events: []*corev1.Event{event("c", "WaitForFirstConsumer", "")}}, 0, false, true},
		"claim not bound":   {Evidence{Live: &corev1.PersistentVolumeClaim{}}, 0, false, false},
		"stateful set":      {Evidence{Live: &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: &two}, Status: appsv1.StatefulSetStatus{ReadyReplicas: 2, AvailableReplicas: 2, CurrentRevision: "a", UpdateRevision: "b", UpdatedReplicas: 1}}}, 0, false, false},
		"daemon set":        {Evidence{Live: &appsv1.DaemonSet{Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberAvailable: 2}}}, 0, false, true},
		"daemon set behind": {Evidence{Live: &appsv1.DaemonSet{Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, UpdatedNumberScheduled: 1, NumberAvailable: 2}}}, 0, false, false},
	} {
		if got, message := judge(c.evidence, c.wanted, c.completed); got != c.want {
			t.Errorf("%s: %v (%s), want %v", name, got, message, c.want)
		}
	}
}

func TestStale(t *testing.T) {
	for name, c := range map[string]struct {
		live   runtime.Object
		wanted int64
		want   bool
	}{
		"absent":                {nil, 2, false},
		"older than applied":    {&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 1}}, 2, true},
		"as applied":            {&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}}, 2, false},
		"revision not told yet": {&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Status: appsv1.StatefulSetStatus{ObservedGeneration: 1}}, 2, true},
	} {
		if got := stale(c.live, c.wanted); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A volume that the cluster itself fills is waited for longer than one that the
// release refers to wrongly; what failed before it was mounted is over.
func TestMounts(t *testing.T) {
	for text, grace := range map[string]time.Duration{
		`MountVolume.SetUp failed for volume "data" : configmap "missing" not found`:                                                     graceMissing,
		`MountVolume.SetUp failed for volume "tls" : secret "orders-tls" not found`:                                                      graceMissing,
		`MountVolume.SetUp failed for volume "data" : configmap references non-existent config key: app.conf`:                            graceMissing,
		`MountVolume.SetUp failed for volume "kube-api-access-6hmsc" : configmap "kube-root-ca.crt" not found`:                           graceNode,
		`MountVolume.SetUp failed for volume "data" : failed to sync configmap cache: timed out waiting for the condition`:               graceNode,
		`MountVolume.MountDevice failed for volume "pvc-1" : rpc error: code = Internal desc = disk "vol-1" not found in the right zone`: graceNode,
	} {
		p := podWith(corev1.ContainerStatus{Name: "app", State: waiting("ContainerCreating", "").State})
		e := Evidence{Pods: []*corev1.Pod{p}, Events: []*corev1.Event{event("p", "FailedMount", text)}}
		if got := Diagnose(e); len(got) != 1 || got[0].Class != ClassVolume || got[0].Grace != grace {
			t.Errorf("%s: %+v", text, got)
		}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue}}
		if got := Diagnose(e); len(got) > 0 {
			t.Errorf("mounted after %s: %+v", text, got)
		}
	}
}
