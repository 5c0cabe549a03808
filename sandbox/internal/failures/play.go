package failures

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// play is one pod that fails as it asks for, told step by step: what the
// kubelet says in events, then what it writes into the status, then how long
// it stays so. A play that is begun anew goes on from the pod's status.
type play struct {
	ctx     context.Context //nolint:containedctx // the life of the play
	pods    typedcorev1.PodInterface
	events  record.EventRecorder
	request Request
	state   *podState
}

// event says something about a container.
func (p *play) event(container, kind, reason, format string, args ...any) {
	field := fmt.Sprintf("spec.containers{%s}", container)
	for _, c := range p.state.pod.Spec.InitContainers {
		if c.Name == container {
			field = fmt.Sprintf("spec.initContainers{%s}", container)
		}
	}
	ref := p.ref()
	ref.FieldPath = field
	p.events.Eventf(ref, kind, reason, format, args...)
}

func (p *play) ref() *corev1.ObjectReference {
	pod := p.state.pod
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion}
}

// write reports the status.
func (p *play) write() error {
	pod := p.state.pod
	next := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID}, Status: p.state.status()}
	patch, err := difference(&corev1.Pod{Status: pod.Status}, next)
	if err == nil {
		pod, err = p.pods.Patch(p.ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	if err != nil {
		return fmt.Errorf("writing the status of pod %s/%s: %w", p.state.pod.Namespace, p.state.pod.Name, err)
	}
	p.state.pod = pod
	return nil
}

// difference is the patch from one pod to another. It names the other's uid,
// so that a new pod of the same name is left alone.
func difference(from, to *corev1.Pod) ([]byte, error) {
	before, err := json.Marshal(from)
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(to)
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
}

// stay reports the status and lets it be so for a while.
func (p *play) stay(d time.Duration) error {
	if err := p.write(); err != nil {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// more reports whether it fails once more after n failures.
func (p *play) more(n int) bool { return p.request.Times == 0 || n < p.request.Times }

// begun reports whether a container has been started before.
func begun(s *corev1.ContainerStatus) bool {
	return s.State.Waiting == nil || s.LastTerminationState.Terminated != nil
}

// target is the container that fails.
func (p *play) target() *corev1.ContainerStatus { return p.state.container(p.request.Container) }

func (p *play) spec(name string) corev1.Container {
	for _, list := range [][]corev1.Container{p.state.pod.Spec.InitContainers, p.state.pod.Spec.Containers} {
		for _, c := range list {
			if c.Name == name {
				return c
			}
		}
	}
	panic("no container " + name) // the request was checked
}

// pulled says that a container's image is there.
func (p *play) pulled(name string, first bool) {
	image := p.spec(name).Image
	if !first {
		p.event(name, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", image)
		return
	}
	p.event(name, corev1.EventTypeNormal, "Pulling", "Pulling image %q", image)
	p.event(name, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.",
		image, 250*time.Millisecond, 250*time.Millisecond, 8<<20)
}

// start starts a container. It is ready at once where no probe says when.
func (p *play) start(name string, restarts int32) {
	p.event(name, corev1.EventTypeNormal, "Created", "Container created")
	p.event(name, corev1.EventTypeNormal, "Started", "Container started")
	p.state.run(name, restarts)
	s, c := p.state.container(name), p.spec(name)
	s.Started = new(c.StartupProbe == nil)
	s.Ready = c.StartupProbe == nil && c.ReadinessProbe == nil && !p.ends(name)
}

// ends reports whether a container is an init container that is to end.
func (p *play) ends(name string) bool {
	return slices.ContainsFunc(p.state.pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name && !sidecar(c) })
}

// well makes a container that runs ready.
func (p *play) well(name string) {
	s := p.state.container(name)
	s.Ready, s.Started = true, new(true)
}

// open brings a new pod to where the container that fails is about to start:
// the init containers before it have ended, the others run.
func (p *play) open() error {
	if p.state.sandbox {
		return nil
	}
	if err := p.write(); err != nil {
		return err
	}
	p.state.sandbox = true
	for _, c := range p.state.pod.Spec.InitContainers {
		if c.Name == p.request.Container {
			return nil
		}
		p.pulled(c.Name, true)
		p.start(c.Name, 0)
		if sidecar(c) {
			p.well(c.Name)
			continue
		}
		p.state.end(c.Name, 0, "Completed")
		p.state.container(c.Name).Ready = true
	}
	for _, c := range p.state.pod.Spec.Containers {
		if c.Name != p.request.Container {
			p.pulled(c.Name, true)
			p.start(c.Name, 0)
			p.well(c.Name)
		}
	}
	return nil
}

// heal lets everything run, and ends it well where it is a job's.
func (p *play) heal() error {
	if err := p.up(); err != nil || p.state.pod.Spec.RestartPolicy == corev1.RestartPolicyAlways {
		return err
	}
	if err := p.stay(max(p.request.After, kinds()[CrashLoop].after)); err != nil {
		return err
	}
	for _, c := range p.state.pod.Spec.Containers {
		p.state.end(c.Name, 0, "Completed")
	}
	return p.write()
}

// up lets everything run that does not.
func (p *play) up() error {
	p.state.sandbox = true
	for _, c := range p.state.pod.Spec.InitContainers {
		s := p.state.container(c.Name)
		if s.Ready {
			continue
		}
		p.mend(s)
		if !sidecar(c) {
			p.state.end(c.Name, 0, "Completed")
			s.Ready = true
		}
	}
	for _, c := range p.state.pod.Spec.Containers {
		p.mend(p.state.container(c.Name))
	}
	return p.write()
}

// mend starts a container unless it runs, and makes it ready.
func (p *play) mend(s *corev1.ContainerStatus) {
	if s.State.Running == nil {
		n := s.RestartCount
		if begun(s) {
			n++
		}
		p.pulled(s.Name, n == 0)
		p.start(s.Name, n)
	}
	p.well(s.Name)
}
