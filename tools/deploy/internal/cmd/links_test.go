package cmd

import (
	"testing"

	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
)

func TestAddressAndLinks(t *testing.T) {
	snapshot := &landscape.Snapshot{Domain: "{service}.{environment}.example.com",
		Clusters:     map[string]landscape.Cluster{"nonprod": {Region: "eu-central-1", EKSName: "nsflow-nonprod"}},
		Environments: map[string]landscape.Environment{"dev": {Namespace: "{service}-dev"}, "prod": {Namespace: "{service}"}, "review": {Namespace: "{service}-mr-{mr}"}}}
	service := &config.Service{Environments: map[string]config.Environment{"prod": {URL: "https://orders.example.com"}, "qa": {URL: "https://mr-{mr}.example.com"}, "bad": {URL: "orders"}}}
	for _, c := range []struct {
		o    options
		want string
		code int
	}{
		{options{environment: "dev"}, "https://orders.dev.example.com", 0},
		{options{environment: "prod"}, "https://orders.example.com", 0},
		{options{environment: "review", mr: "12"}, "https://orders-mr-12.review.example.com", 0},
		{options{environment: "qa", mr: "12"}, "https://mr-12.example.com", 0},
		{options{environment: "bad"}, "", tool.Usage},
	} {
		p := &prepared{session: &session.Session{Snapshot: snapshot, CI: cienv.CI{JobURL: "https://gitlab.example.com/o/-/jobs/9", ProjectDir: "/builds/o"}},
			loaded: &loaded{service: service}, target: target{Service: "orders", Cluster: "nonprod", Namespace: "orders-dev"}}
		got, err := p.address(c.o)
		if tool.CodeOf(err) != c.code || err == nil && got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.o.environment, got, err, c.want)
		}
		if err != nil {
			continue
		}
		c.o.reportDir = "/builds/o/slipway-report"
		links := p.links(c.o, got)
		if len(links) != 3 || links[0].URL != got || links[1].URL != "https://gitlab.example.com/o/-/jobs/9/artifacts/file/slipway-report/slipway-deploy.html" ||
			links[2].URL != "https://eu-central-1.console.aws.amazon.com/eks/clusters/nsflow-nonprod?region=eu-central-1" {
			t.Errorf("%s: links %+v", c.o.environment, links)
		}
	}
	p := &prepared{session: &session.Session{Snapshot: &landscape.Snapshot{}}, loaded: &loaded{service: &config.Service{}}, target: target{Service: "orders"}}
	if got, err := p.address(options{environment: "dev"}); got != "" || err != nil || len(p.links(options{}, got)) != 0 {
		t.Errorf("without a domain: %q, %v", got, err)
	}
}
