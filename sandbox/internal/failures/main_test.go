package failures

import (
	"flag"
	"os"
	"testing"
)

// These tests wait and hardly compute: more of them run at once than there are
// processors.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
