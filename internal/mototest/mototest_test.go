package mototest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake is a server in moto's place: its first process finds the port taken.
const fake = `#!/usr/bin/env python3
import http.server, os, sys
if not os.path.exists(sys.argv[0] + ".tried"):
    open(sys.argv[0] + ".tried", "w").close()
    sys.exit("Address already in use")
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[4])), Answer).serve_forever()
`

func TestPortThatIsTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "moto")
	if err := os.WriteFile(path, []byte(fake), 0o700); err != nil { //nolint:gosec // a program is to run
		t.Fatal(err)
	}
	t.Setenv("SLIPWAY_MOTO_SERVER", path)
	if address := Start(t); !strings.HasPrefix(address, "http://127.0.0.1:") {
		t.Errorf("the address is %q", address)
	}
	if _, err := os.Stat(path + ".tried"); err != nil {
		t.Error(err)
	}
}
