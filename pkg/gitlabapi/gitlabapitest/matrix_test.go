package gitlabapitest

import (
	"reflect"
	"testing"
)

func TestMatrixVariables(t *testing.T) {
	raw := map[string]any{"parallel": map[string]any{"matrix": []any{
		map[string]any{"ENVIRONMENT": []any{"dev", "test"}},
		map[string]any{"REGION": "eu", "SIZE": []any{1, 2}},
	}}}
	for name, want := range map[string]map[string]string{
		"deploy: [test]": {"ENVIRONMENT": "test"}, "deploy: [eu, 2]": {"REGION": "eu", "SIZE": "2"}, "deploy: [prod]": nil, "deploy": nil, "deploy 1/2": nil,
	} {
		if got := matrixVariables(name, raw); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// TestEnvironmentOfAMatrix: a job's environment may be named by its matrix.
func TestEnvironmentOfAMatrix(t *testing.T) {
	preview := []byte("stages: [test]\ndeploy:\n  script: ['true']\n  environment: {name: $ENVIRONMENT}\n  resource_group: deploy-$ENVIRONMENT\n  parallel: {matrix: [{ENVIRONMENT: [dev, test]}]}\n")
	defs, _, err := definitions([]listed{{Name: "deploy: [test]", Stage: "test", When: "on_success", AllowFailure: []byte("false")}}, preview, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if defs[0].Environment.Name != "test" || defs[0].ResourceGroup != "deploy-test" {
		t.Errorf("environment %q, resource group %q", defs[0].Environment.Name, defs[0].ResourceGroup)
	}
}
