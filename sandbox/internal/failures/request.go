package failures

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Annotation asks for a failure; it stands on the pod, in a workload on the
// template of its pods. Its value is one of Kinds.
const Annotation = "slipway.dev/fail"

// What else may be asked for. Times and seconds may be left out.
const (
	// TimesAnnotation is after how many failures the pod heals; without it, it
	// never does.
	TimesAnnotation = Annotation + "-times"
	// AfterAnnotation is for how many seconds all goes well before a container
	// that runs fails.
	AfterAnnotation = Annotation + "-after"
	// ForAnnotation is how many seconds one failure lasts: the back-off of a
	// container or pull, the time between two failing probes, the time that a
	// slow start takes.
	ForAnnotation = Annotation + "-for"
	// ContainerAnnotation names the container that fails: the first one where
	// it is missing, with the kind init the first init container.
	ContainerAnnotation = Annotation + "-container"
	// MessageAnnotation is what the runtime, the registry or the probe says.
	MessageAnnotation = Annotation + "-message"
	// ExitCodeAnnotation is the exit code of a container that fails, 1 where
	// it is missing.
	ExitCodeAnnotation = Annotation + "-exit-code"
)

// Kind is a failure that can be asked for.
type Kind string

// The kinds.
const (
	ImagePull  Kind = "image-pull"  // ErrImagePull and ImagePullBackOff in turn
	ImageName  Kind = "image-name"  // InvalidImageName
	Config     Kind = "config"      // CreateContainerConfigError
	Mount      Kind = "mount"       // FailedMount
	StartError Kind = "start-error" // RunContainerError, then CrashLoopBackOff
	CrashLoop  Kind = "crash-loop"  // exit code 1, then CrashLoopBackOff
	OOM        Kind = "oom"         // OOMKilled, then CrashLoopBackOff
	Init       Kind = "init"        // an init container in CrashLoopBackOff
	Liveness   Kind = "liveness"    // killed by its liveness probe, again and again
	SlowStart  Kind = "slow-start"  // ready only after some time
	NotReady   Kind = "not-ready"   // runs and never gets ready
	Evict      Kind = "evict"       // taken off its node
)

// Request is a failure that a pod asks for.
type Request struct {
	Kind       Kind
	Times      int           // 0 is for ever
	After, For time.Duration // see the annotations
	Container  string
	Message    string
	ExitCode   int32
}

// kind is what is particular to a kind.
type kind struct {
	play func(*play) error
	init bool // its container is an init container
	// early kinds are of a pod whose containers have not run yet.
	early bool
	// takes are the annotations beside After and For that mean something.
	takes      []string
	after, lag time.Duration // where nothing else is asked for
}

func kinds() map[Kind]kind {
	waits := []string{TimesAnnotation, ContainerAnnotation, MessageAnnotation}
	ends := []string{TimesAnnotation, ContainerAnnotation, ExitCodeAnnotation}
	const soon, short = 200 * time.Millisecond, time.Second
	return map[Kind]kind{
		ImagePull:  {play: (*play).imagePull, early: true, takes: waits, lag: short},
		ImageName:  {play: (*play).imageName, early: true, takes: []string{TimesAnnotation, ContainerAnnotation}, lag: short},
		Config:     {play: (*play).config, early: true, takes: waits, lag: short},
		Mount:      {play: (*play).mount, early: true, takes: []string{TimesAnnotation, MessageAnnotation}, lag: short},
		StartError: {play: (*play).startError, takes: waits, lag: short},
		CrashLoop:  {play: (*play).crashLoop, takes: ends, after: soon, lag: short},
		OOM:        {play: (*play).oom, takes: []string{TimesAnnotation, ContainerAnnotation}, after: soon, lag: short},
		Init:       {play: (*play).crashLoop, init: true, takes: ends, after: soon, lag: short},
		Liveness:   {play: (*play).liveness, takes: waits, after: soon, lag: short},
		SlowStart:  {play: (*play).slowStart, takes: []string{ContainerAnnotation, MessageAnnotation}, lag: 5 * short},
		NotReady:   {play: (*play).notReady, takes: waits, lag: short},
		Evict:      {play: (*play).evict, takes: []string{MessageAnnotation}, after: short},
	}
}

// Kinds returns what may be asked for.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kinds())) }

// longest bounds what a pod may ask for, in seconds and in times.
const longest = 3600

// parse reads a pod's annotations. It returns all that is wrong with them.
func parse(pod *corev1.Pod) (Request, error) {
	r := Request{Kind: Kind(pod.Annotations[Annotation]), ExitCode: 1}
	k, ok := kinds()[r.Kind]
	if !ok {
		return r, fmt.Errorf("reading %s: %q is none of %v", Annotation, r.Kind, Kinds())
	}
	r.After, r.For = k.after, k.lag
	var all []error
	for _, name := range slices.Sorted(maps.Keys(pod.Annotations)) {
		if !strings.HasPrefix(name, Annotation+"-") {
			continue
		}
		if err := r.set(name, pod.Annotations[name], k); err != nil {
			all = append(all, fmt.Errorf("reading %s: %w", name, err))
		}
	}
	if err := r.find(pod, k.init); err != nil {
		all = append(all, err)
	}
	return r, errors.Join(all...)
}

// set takes one annotation over.
func (r *Request) set(name, value string, k kind) error {
	known := []string{TimesAnnotation, AfterAnnotation, ForAnnotation, ContainerAnnotation, MessageAnnotation, ExitCodeAnnotation}
	switch {
	case !slices.Contains(known, name):
		return fmt.Errorf("there is no such setting, only %s", strings.Join(known, ", "))
	case name == AfterAnnotation && k.after == 0, name == ForAnnotation && k.lag == 0,
		name != AfterAnnotation && name != ForAnnotation && !slices.Contains(k.takes, name):
		return fmt.Errorf("it means nothing with %q", r.Kind)
	}
	var err error
	switch name {
	case TimesAnnotation:
		r.Times, err = number(value, 1, longest)
	case AfterAnnotation:
		r.After, err = seconds(value)
	case ForAnnotation:
		r.For, err = seconds(value)
	case ContainerAnnotation:
		r.Container = value
	case MessageAnnotation:
		r.Message = value
	case ExitCodeAnnotation:
		var n int
		n, err = number(value, 1, 255)
		r.ExitCode = int32(n) //nolint:gosec // at most 255
	}
	return err
}

func number(value string, low, high int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q is no number from %d to %d", value, low, high)
	}
	return n, nil
}

func seconds(value string) (time.Duration, error) {
	s, err := strconv.ParseFloat(value, 64)
	if err != nil || !(s >= 0.05 && s <= longest) {
		return 0, fmt.Errorf("%q is no number of seconds from 0.05 to %d", value, longest)
	}
	return time.Duration(s * float64(time.Second)), nil
}

// find finds the container, or says that there is none.
func (r *Request) find(pod *corev1.Pod, initial bool) error {
	of, word := pod.Spec.Containers, "container"
	if initial {
		of, word = pod.Spec.InitContainers, "init container"
	}
	if r.Container == "" && len(of) > 0 {
		r.Container = of[0].Name
	}
	i := slices.IndexFunc(of, func(c corev1.Container) bool { return c.Name == r.Container })
	switch {
	case r.Container == "":
		return fmt.Errorf("reading %s: the pod has no %s", Annotation, word)
	case i < 0:
		return fmt.Errorf("reading %s: the pod has no %s %q", ContainerAnnotation, word, r.Container)
	case initial && sidecar(of[i]):
		return fmt.Errorf("reading %s: %q is a sidecar and not an init container that ends", ContainerAnnotation, r.Container)
	}
	return nil
}

// sidecar reports whether an init container stays beside the others.
func sidecar(c corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// asked are the annotations of a pod that ask for something: where two are
// equal, nothing else is asked for.
func asked(pod *corev1.Pod) string {
	if _, ok := pod.Annotations[Annotation]; !ok {
		return ""
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(pod.Annotations)) {
		if strings.HasPrefix(name, Annotation) {
			all = append(all, fmt.Sprintf("%s=%q", name, pod.Annotations[name]))
		}
	}
	return strings.Join(all, " ")
}
