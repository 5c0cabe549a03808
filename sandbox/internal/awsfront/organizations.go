package awsfront

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
)

// shown is the status of the failed creation, done or, as AWS answers first,
// under way.
func (a failedAccount) shown(done bool) map[string]any {
	out := map[string]any{"Id": a.ID, "AccountName": a.Name, "State": "IN_PROGRESS", "RequestedTimestamp": epoch(a.Requested)}
	if done {
		out["State"], out["FailureReason"], out["CompletedTimestamp"] = "FAILED", a.Reason, epoch(a.Requested)
	}
	return out
}

// serveOrganizations refuses what moto would grant: an account whose e-mail
// address another account has. As on AWS the request is accepted and its
// status says later that it failed. It reports false for a call that is moto's.
func (f *Front) serveOrganizations(c *call) bool {
	switch c.action {
	case "CreateAccount":
		f.createAccount(c)
		return true
	case "DescribeCreateAccountStatus":
		var in struct {
			ID string `json:"CreateAccountRequestId"`
		}
		if refused := c.bind(&in); refused != nil {
			c.fail(refused)
			return true
		}
		var failed failedAccount
		var found bool
		f.store.read(func(d *data) { failed, found = d.Accounts[in.ID] })
		if found && c.caller.Account == f.cfg.ManagementAccount {
			writeJSON(c.w, http.StatusOK, map[string]any{"CreateAccountStatus": failed.shown(true)})
			return true
		}
	}
	return false
}

func (f *Front) createAccount(c *call) {
	var in struct{ Email, AccountName string }
	if refused := c.bind(&in); refused != nil {
		c.fail(refused)
		return
	}
	f.creating.Lock()
	defer f.creating.Unlock()
	taken := false
	pages := organizations.NewListAccountsPaginator(f.moto.organizations(c.caller.Account), &organizations.ListAccountsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.r.Context())
		if err != nil {
			break // no organization, or no right: moto's answer to the call says it
		}
		for _, a := range page.Accounts {
			taken = taken || strings.EqualFold(aws.ToString(a.Email), in.Email)
		}
	}
	if !taken {
		f.passOn(c)
		return
	}
	failed := failedAccount{ID: "car-" + strings.ReplaceAll(requestID(), "-", ""), Name: in.AccountName, Reason: "EMAIL_ALREADY_EXISTS", Requested: f.now().UTC()}
	if refused := f.store.change(func(d *data) *apiError { d.Accounts[failed.ID] = failed; return nil }); refused != nil {
		c.fail(refused)
		return
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"CreateAccountStatus": failed.shown(false)})
}

// addFailedAccounts puts the front's failed creations into moto's list.
func (f *Front) addFailedAccounts(resp *http.Response, c *call) error {
	var in struct{ States []string }
	if err := json.Unmarshal(c.body, &in); err != nil && len(bytes.TrimSpace(c.body)) > 0 {
		return err
	}
	if c.caller.Account != f.cfg.ManagementAccount || len(in.States) > 0 && !slices.Contains(in.States, "FAILED") {
		return nil
	}
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return err
	}
	list, _ := out["CreateAccountStatuses"].([]any)
	f.store.read(func(d *data) {
		for _, failed := range d.Accounts {
			list = append(list, failed.shown(true))
		}
	})
	out["CreateAccountStatuses"] = list
	raw, err := json.Marshal(out)
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	resp.ContentLength = int64(len(raw))
	resp.Header.Set("Content-Length", strconv.Itoa(len(raw)))
	return nil
}
