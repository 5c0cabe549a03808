package apply

import (
	"errors"
	"fmt"
	"sync"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// claims are the objects of a set, each with the release that brings it. Two new
// releases with one object both plan well, since neither finds it in the cluster.
type claims struct {
	mu sync.Mutex
	by map[helmrelease.Object]string
}

// take notes what a release brings, and returns what another one brings too.
func (c *claims) take(release string, objects []helmrelease.Object) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var both []error
	for _, o := range objects {
		other, there := c.by[o]
		if !there {
			c.by[o] = release
		} else if other != release {
			both = append(both, fmt.Errorf("releases %q and %q both bring %s", other, release, o))
		}
	}
	return tool.Exit(tool.Refused, errors.Join(both...), "an object belongs to one release: take it out of one of the two, or give it a name of its own in each")
}
