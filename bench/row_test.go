package main

import (
	"strings"
	"testing"
)

func TestRow(t *testing.T) {
	for want, r := range map[string]row{
		"start-deploy ours=0.030 peer=0.060 ratio=0.50 target=ratio<=0.75 ok":   {name: "start-deploy", ours: 0.03, peer: 0.06, limit: 0.75},
		"start-backup ours=0.060 peer=0.060 ratio=1.00 target=ratio<=0.5 short": {name: "start-backup", ours: 0.06, peer: 0.06, limit: 0.5},
		"sandbox-base ours=12.500 peer=- ratio=- target=ours<=30 ok":            {name: "sandbox-base", ours: 12.5, limit: 30},
	} {
		if got := r.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestReadBuilds(t *testing.T) {
	rows, err := readBuilds(strings.NewReader("sandbox: building crane (about 20 s cold)\nsandbox: building crane: 10s so far\nsandbox: building velero (about 7 min cold)\n" +
		"sandbox: built velero in 2m3s\nsandbox: built crane in 1.4s\nsandbox: built and cached: crane, velero\n"))
	if err != nil || len(rows) != 2 || rows[0] != (row{name: "build-velero", ours: 123, limit: 420}) || rows[1] != (row{name: "build-crane", ours: 1.4, limit: 20}) {
		t.Errorf("read %+v, %v", rows, err)
	}
}
