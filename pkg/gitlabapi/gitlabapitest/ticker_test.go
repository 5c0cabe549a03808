package gitlabapitest

import "time"

func newTicker() *time.Ticker { return time.NewTicker(20 * time.Millisecond) }
