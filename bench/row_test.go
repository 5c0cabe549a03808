package main

import "testing"

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
