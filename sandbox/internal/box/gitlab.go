package box

import (
	"context"

	"gitlab.com/slipway/slipway/pkg/gitlabapi/gitlabapitest"

	"gitlab.com/slipway/slipway/sandbox/internal/serve"
)

// gitlabURL is the instance's identity: the issuer of ID tokens. It is
// reached at another address.
const gitlabURL = "https://gitlab.example.com"

// Ids of the projects. The landscape names them.
const (
	slipwayProject      = 10
	platformProject     = 42
	environmentsProject = 43
	ordersProject       = 77
	catalogProject      = 78
)

// gitlabParts are the GitLab server and Slipway's own project in it.
func gitlabParts() []Part {
	return []Part{
		{
			Name: "gitlab", Ports: []string{"gitlab"},
			Command: func(b *Box) (Spec, error) { return b.gitlab() },
			Ready: func(ctx context.Context, b *Box) error {
				return answers(ctx, "http://"+b.addr("gitlab")+"/.well-known/openid-configuration")
			},
		},
		{
			Name: snapshotPart, Needs: []string{"gitlab"},
			Ready: func(ctx context.Context, b *Box) error { return b.pushSlipway(ctx) },
		},
	}
}

func (b *Box) gitlab() (Spec, error) {
	command, err := ciLocalCommand(b.programs["gitlab-ci-local"])
	if err != nil {
		return Spec{}, err
	}
	return b.serve("gitlab", serve.GitLab{Listen: b.addr("gitlab"), Config: gitlabapitest.Config{
		Root: b.path("gitlab"), ExternalURL: gitlabURL, Endpoint: "http://" + b.addr("gitlab"), Registry: b.addr("registry"),
		AdminToken: b.secrets.GitLabToken, Projects: projects(),
		Runner: gitlabapitest.Runner{
			Command: command, Path: []string{b.Root + "/bin", b.path("bin")},
			Env: map[string]string{
				"AWS_ENDPOINT_URL": "http://" + b.addr("aws"), "AWS_REGION": region, "AWS_EC2_METADATA_DISABLED": "true",
				"SLIPWAY_LANDSCAPE": "gitlab:nsflow/platform",
			},
		},
	}})
}

// projects of the instance, with who may enter whom by job token.
func projects() []gitlabapitest.Project {
	project := func(id int64, path string, allow ...int64) gitlabapitest.Project {
		return gitlabapitest.Project{
			ID: id, Path: path, DefaultBranch: "main", ProtectedBranches: []string{"main"}, JobTokenAllowlist: allow,
			SubClaimComponents: []string{"project_id", "ref_protected", "ref_type", "ref"},
		}
	}
	slipway := project(slipwayProject, "slipway/slipway")
	slipway.Public = true
	return []gitlabapitest.Project{
		slipway,
		project(platformProject, "nsflow/platform", environmentsProject, ordersProject, catalogProject),
		project(environmentsProject, "nsflow/environments", ordersProject, catalogProject),
		project(ordersProject, "nsflow/orders", environmentsProject),
		project(catalogProject, "nsflow/catalog", environmentsProject),
	}
}
