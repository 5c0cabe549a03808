package stack

// Credentials are the keys of the assumed role.
type Credentials struct{ ID, Secret, Token string }

// passed are the variables that reach the child. The job's tokens are not
// among them: providers, modules and provisioners are other people's code.
func passed() []string {
	return []string{"PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
		"TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_KMS"}
}

// ChildEnv builds the whole environment of the child from nothing.
func ChildEnv(env func(string) string, c Credentials, region string) map[string]string {
	child := map[string]string{"CHECKPOINT_DISABLE": "1", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_REGION": region, "AWS_ACCESS_KEY_ID": c.ID, "AWS_SECRET_ACCESS_KEY": c.Secret}
	if c.Token != "" {
		child["AWS_SESSION_TOKEN"] = c.Token
	}
	for _, name := range passed() {
		if v := env(name); v != "" {
			child[name] = v
		}
	}
	return child
}
