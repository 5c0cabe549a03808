// Command velero is the Velero program, with one difference: the metrics
// server that controller-runtime starts by itself, on port 8080 of every
// address and without a flag, stays off. Velero's own metrics have a flag.
package main

import (
	"os"
	"path/filepath"

	"github.com/vmware-tanzu/velero/pkg/cmd"
	"github.com/vmware-tanzu/velero/pkg/cmd/velero"
	"k8s.io/klog/v2"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	defer klog.Flush()
	metricsserver.DefaultBindAddress = "0"
	// The server starts its plugins by running os.Args[0] again, so the name
	// stays what it was called by.
	err := velero.NewCommand(filepath.Base(os.Args[0])).Execute()
	cmd.CheckError(err)
}
