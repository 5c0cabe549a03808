package awsfront

import (
	"context"
	"time"
)

// ownTime bounds what the front goes on with when its client is gone.
const ownTime = time.Minute

// detached is the context of changes that the front makes in several steps: a
// client that goes away must not leave them half done, which AWS never does.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), ownTime)
}

// outlives reports whether a call that is passed on to moto ends without its
// client: the front learns from the answer, or forgets what it knew. Objects
// of S3 are not among these, and may take longer than the front waits.
func (f *Front) outlives(c *call) bool {
	mutates, _ := f.counter.mutating(c.service, c.action)
	return mutates && (c.service != "s3" || onBucket(c.r.URL))
}
