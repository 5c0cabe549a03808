package kube

import "sync"

// warnings hands the server's warnings on. Left alone, the client writes them
// to the standard error stream, past a job's masked log.
type warnings struct {
	tell func(string)
	seen sync.Map
}

// HandleWarningHeader takes one warning; 299 is the code that the server uses.
func (w *warnings) HandleWarningHeader(code int, _, text string) {
	if code != 299 || text == "" || w.tell == nil {
		return
	}
	if _, known := w.seen.LoadOrStore(text, true); !known {
		w.tell(text)
	}
}
