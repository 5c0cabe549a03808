package failures

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// or returns what the pod asks to be said, or what would be said otherwise.
func (p *play) or(message string) string {
	if p.request.Message != "" {
		return p.request.Message
	}
	return message
}

// imagePull fails to pull the image: each time the error, then the back-off.
func (p *play) imagePull() error {
	name := p.request.Container
	image := p.spec(name).Image
	says := p.or(fmt.Sprintf("rpc error: code = NotFound desc = failed to pull and unpack image %q: failed to resolve reference %q: %s: not found", image, image, image))
	if err := p.open(); err != nil {
		return err
	}
	for n := 0; p.more(n); n++ {
		p.event(name, corev1.EventTypeNormal, "Pulling", "Pulling image %q", image)
		p.event(name, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %s", image, says)
		p.event(name, corev1.EventTypeWarning, "Failed", "Error: ErrImagePull")
		p.state.wait(name, "ErrImagePull", says)
		if err := p.stay(p.request.For); err != nil {
			return err
		}
		p.event(name, corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", image)
		p.event(name, corev1.EventTypeWarning, "Failed", "Error: ImagePullBackOff")
		p.state.wait(name, "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", image, says))
		if err := p.stay(p.request.For); err != nil {
			return err
		}
	}
	return p.heal()
}

// imageName refuses the image's name.
func (p *play) imageName() error {
	name := p.request.Container
	says := fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: invalid reference format", p.spec(name).Image, p.spec(name).Image)
	return p.refuse("InvalidImageName", says, func(int) {
		p.event(name, corev1.EventTypeWarning, "InspectFailed", "%s", says)
		p.event(name, corev1.EventTypeWarning, "Failed", "Error: InvalidImageName")
	})
}

// config fails to make the container, since something that it refers to is
// not there.
func (p *play) config() error {
	name := p.request.Container
	says := p.or(p.missing())
	return p.refuse("CreateContainerConfigError", says, func(n int) {
		p.pulled(name, n == 0)
		p.event(name, corev1.EventTypeWarning, "Failed", "Error: %s", says)
	})
}

// refuse does not start the container, again and again.
func (p *play) refuse(reason, says string, events func(n int)) error {
	if err := p.open(); err != nil {
		return err
	}
	for n := 0; p.more(n); n++ {
		events(n)
		p.state.wait(p.request.Container, reason, says)
		if err := p.stay(p.request.For); err != nil {
			return err
		}
	}
	return p.heal()
}

// missing says which of the container's references leads nowhere: the first.
func (p *play) missing() string {
	c, ns := p.spec(p.request.Container), p.state.pod.Namespace
	for _, e := range c.EnvFrom {
		switch {
		case e.ConfigMapRef != nil:
			return fmt.Sprintf("configmap %q not found", e.ConfigMapRef.Name)
		case e.SecretRef != nil:
			return fmt.Sprintf("secret %q not found", e.SecretRef.Name)
		}
	}
	for _, e := range c.Env {
		switch {
		case e.ValueFrom == nil:
		case e.ValueFrom.ConfigMapKeyRef != nil:
			return fmt.Sprintf("couldn't find key %v in ConfigMap %v/%v", e.ValueFrom.ConfigMapKeyRef.Key, ns, e.ValueFrom.ConfigMapKeyRef.Name)
		case e.ValueFrom.SecretKeyRef != nil:
			return fmt.Sprintf("couldn't find key %v in Secret %v/%v", e.ValueFrom.SecretKeyRef.Key, ns, e.ValueFrom.SecretKeyRef.Name)
		}
	}
	return `configmap "missing" not found`
}

// mount fails to mount a volume, so that no container is made.
func (p *play) mount() error {
	if !p.state.sandbox {
		name, says := p.volume()
		for n := 0; p.more(n); n++ {
			p.events.Eventf(p.ref(), corev1.EventTypeWarning, "FailedMount", "MountVolume.SetUp failed for volume %q : %s", name, p.or(says))
			if err := p.stay(p.request.For); err != nil {
				return err
			}
		}
	}
	return p.heal()
}

// volume is the pod's first volume of something that may be missing, and what
// is said of it.
func (p *play) volume() (name, says string) {
	for _, v := range p.state.pod.Spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			return v.Name, fmt.Sprintf("configmap %q not found", v.ConfigMap.Name)
		case v.Secret != nil:
			return v.Name, fmt.Sprintf("secret %q not found", v.Secret.SecretName)
		case v.Projected != nil:
			return v.Name, `configmap "kube-root-ca.crt" not found`
		}
	}
	return "data", "the volume is not there"
}

// ending is how a container ends each time.
type ending struct {
	code   int32
	reason string
	free   int32 // how many restarts come at once, before the first back-off
	// killed is what is said where the kubelet itself ends it; then nobody sees
	// the container ended.
	killed func()
}

func (p *play) crashLoop() error {
	return p.loop(ending{code: p.request.ExitCode, reason: "Error", free: 1})
}

func (p *play) oom() error { return p.loop(ending{code: 137, reason: "OOMKilled", free: 1}) }

// liveness has the container killed by its probe.
func (p *play) liveness() error {
	name := p.request.Container
	return p.loop(ending{code: 137, reason: "Error", free: 2, killed: func() {
		p.event(name, corev1.EventTypeWarning, "Unhealthy", "Liveness probe failed: %s", p.or("HTTP probe failed with statuscode: 500"))
		then := ", will be restarted"
		if p.state.pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
			then = ""
		}
		p.event(name, corev1.EventTypeNormal, "Killing", "Container %s failed liveness probe%s", name, then)
	}})
}

// loop starts a container that ends, and starts it again after a back-off.
func (p *play) loop(e ending) error {
	name := p.request.Container
	if err := p.open(); err != nil {
		return err
	}
	for n := p.starts(); p.more(int(n)); n++ {
		if p.target().State.Running == nil {
			p.pulled(name, n == 0)
			p.start(name, n)
		}
		if err := p.stay(p.request.After); err != nil {
			return err
		}
		p.state.end(name, e.code, e.reason)
		if e.killed != nil {
			e.killed()
		} else if err := p.stay(p.request.For / 4); err != nil {
			return err
		}
		if p.state.pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
			return p.write()
		}
		if err := p.backOff(n, e.free); err != nil {
			return err
		}
	}
	return p.heal()
}

// starts is which start of the container it is that comes next, or that runs.
func (p *play) starts() int32 {
	s := p.target()
	if s.State.Running == nil && begun(s) {
		return s.RestartCount + 1
	}
	return s.RestartCount
}

// backOff waits before a container that has ended is started again. The first
// restarts, as many as free says, come at once.
func (p *play) backOff(restarts, free int32) error {
	if restarts < free {
		return nil
	}
	name, pod := p.request.Container, p.state.pod
	full := fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
	p.event(name, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s", name, full)
	p.state.wait(name, "CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", delay(restarts-free), name, full))
	return p.stay(p.request.For)
}

// delay is a kubelet's nth back-off: it doubles from ten seconds up to five
// minutes. The play only says so, and waits less.
func delay(n int32) time.Duration {
	return min(10*time.Second<<min(n, 10), 5*time.Minute)
}

// startError has a container whose command cannot be executed.
func (p *play) startError() error {
	name := p.request.Container
	command := "/app/missing"
	if c := p.spec(name).Command; len(c) > 0 {
		command = c[0]
	}
	says := p.or(fmt.Sprintf("failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: %q: stat %s: no such file or directory: unknown", command, command))
	if err := p.open(); err != nil {
		return err
	}
	for n := p.starts(); p.more(int(n)); n++ {
		p.pulled(name, n == 0)
		p.event(name, corev1.EventTypeNormal, "Created", "Container created")
		p.event(name, corev1.EventTypeWarning, "Failed", "Error: %s", says)
		p.state.run(name, n)
		p.state.end(name, 128, "StartError")
		p.target().State.Terminated.Message = says
		p.target().State.Terminated.StartedAt = metav1.Unix(0, 0) // as containerd has it
		p.state.wait(name, "RunContainerError", says)
		if err := p.stay(p.request.For / 4); err != nil {
			return err
		}
		if err := p.backOff(n, 1); err != nil {
			return err
		}
	}
	return p.heal()
}

func (p *play) notReady() error {
	return p.unready("HTTP probe failed with statuscode: 503", func(n int) (time.Duration, bool) { return p.request.For, p.more(n) })
}

// slowStart fails its probe once a second until the time is over.
func (p *play) slowStart() error {
	over := time.Now().Add(p.request.For)
	if s := p.target().State.Running; s != nil {
		over = s.StartedAt.Add(p.request.For)
	}
	address := podIP(p.state.pod) + ":8080"
	return p.unready(fmt.Sprintf("Get %q: dial tcp %s: connect: connection refused", "http://"+address+"/", address), func(int) (time.Duration, bool) {
		left := time.Until(over)
		return min(left, time.Second), left > 0
	})
}

// unready runs the container and lets its probe fail for as long as next says.
func (p *play) unready(says string, next func(n int) (time.Duration, bool)) error {
	name := p.request.Container
	if err := p.open(); err != nil {
		return err
	}
	if p.target().State.Running == nil {
		p.pulled(name, true)
		p.start(name, 0)
	}
	probe := "Readiness"
	if p.spec(name).StartupProbe != nil {
		probe = "Startup"
	}
	p.target().Ready = false
	for n := 0; ; n++ {
		wait, more := next(n)
		if !more {
			return p.heal()
		}
		p.event(name, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", probe, p.or(says))
		if err := p.stay(wait); err != nil {
			return err
		}
	}
}

// evict takes the pod off its node.
func (p *play) evict() error {
	if err := p.open(); err != nil {
		return err
	}
	if err := p.up(); err != nil {
		return err
	}
	if err := p.stay(p.request.After); err != nil {
		return err
	}
	says := p.pressure()
	for _, c := range p.state.pod.Spec.Containers {
		p.event(c.Name, corev1.EventTypeNormal, "Killing", "Stopping container %s", c.Name)
		p.state.end(c.Name, 137, "Error")
	}
	p.state.sandbox, p.state.phase, p.state.reason, p.state.message = false, corev1.PodFailed, "Evicted", says
	return p.write()
}

// pressure says why the pod is evicted: for a volume that is over its limit,
// where the pod has one with a limit, else for want of memory on the node.
func (p *play) pressure() string {
	for _, v := range p.state.pod.Spec.Volumes {
		if v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil {
			says := p.or(fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit))
			p.events.Eventf(p.ref(), corev1.EventTypeWarning, "Evicted", "%s", says)
			return says
		}
	}
	c := p.spec(p.request.Container)
	says := p.or(fmt.Sprintf("The node was low on resource: memory. Threshold quantity: 100Mi, available: 72540Ki. Container %s was using 412864Ki, request is %s, has larger consumption of memory. ", c.Name, c.Resources.Requests.Memory()))
	p.events.AnnotatedEventf(p.ref(), map[string]string{"starved_resource": "memory", "offending_containers": c.Name, "offending_containers_usage": "412864Ki"},
		corev1.EventTypeWarning, "Evicted", "%s", says)
	p.state.disruption = &corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: says}
	return says
}
