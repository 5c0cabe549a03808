package chain

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Demo runs every step, stops at the first that fails, and leaves the page.
func (c *Chain) Demo(ctx context.Context) error {
	var shown []Shown
	var failed error
	steps := c.Steps()
	for i, s := range steps {
		c.Say("step %d of %d: %s", i+1, len(steps), s.Name)
		start := time.Now()
		jobs, err := s.Run(ctx)
		row := Shown{Step: s, Jobs: jobs, Seconds: time.Since(start).Seconds()}
		if err != nil {
			row.Err = err.Error()
			failed = fmt.Errorf("step %q: %w", s.Name, err)
		}
		shown = append(shown, row)
		if failed != nil {
			break
		}
		c.Say("done: %s (%.1f s)", s.Name, row.Seconds)
	}
	path, err := WritePage(c.Work, shown, c.start)
	if err != nil {
		return errors.Join(failed, err)
	}
	c.Say("the report is %s", path)
	return failed
}
