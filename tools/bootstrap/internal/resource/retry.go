package resource

import (
	"context"
	"math/rand/v2"
	"time"
)

// Retry calls fn until it succeeds, fails with an error that is not worth a
// retry, or the patience is used up; then the last error is returned. It is for
// what AWS needs time to know; throttling is the SDK's to retry.
func Retry(ctx context.Context, patience time.Duration, worth func(error) bool, fn func() error) error {
	deadline := time.Now().Add(patience)
	for wait := 200 * time.Millisecond; ; wait = min(wait*2, 10*time.Second) {
		err := fn()
		if err == nil || !worth(err) || time.Now().After(deadline) {
			return err
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}
