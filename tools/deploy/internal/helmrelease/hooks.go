package helmrelease

import (
	"time"

	helmkube "helm.sh/helm/v3/pkg/kube"
)

// WatchUntilReady waits for a hook: jobs and pods must run to their end, the
// rest is done by being there. What they write is in the job's log while they
// run, and stays there when a delete policy takes the pods away.
func (c *client) WatchUntilReady(list helmkube.ResourceList, timeout time.Duration) (err error) {
	var run helmkube.ResourceList
	for _, info := range list {
		if k := info.Mapping.GroupVersionKind.Kind; k == "Job" || k == "Pod" {
			run = append(run, info)
		}
	}
	if c.hook != nil && len(run) > 0 {
		end := c.hook(run[0].Name)
		defer func() { end(err) }()
	}
	stop, err := c.tail(run)
	if err != nil {
		return err
	}
	defer stop()
	o := c.options
	o.Stable, o.Completed = 0, true
	return c.wait(run, timeout, o)
}
