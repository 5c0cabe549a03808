package awsfront

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"
)

// moto makes accounts at once and always. The front keeps the requests itself:
// each is IN_PROGRESS first, and succeeds or fails when its time has come.

// creation is a request for an account.
type creation struct {
	ID, Name, Email, Role string
	Tags                  map[string]string
	Requested, Due        time.Time
	State                 string
	Reason                string // of a failure
	Account               string // once it is made, which is before the success
}

// States of a request, and AWS's limit of those under way.
const (
	inProgress   = "IN_PROGRESS"
	succeeded    = "SUCCEEDED"
	failedState  = "FAILED"
	maxCreations = 5
)

// shown is the status in the shape of the API.
func (a creation) shown() map[string]any {
	out := map[string]any{"Id": a.ID, "AccountName": a.Name, "State": a.State, "RequestedTimestamp": epoch(a.Requested)}
	switch a.State {
	case succeeded:
		out["AccountId"], out["CompletedTimestamp"] = a.Account, epoch(a.Due)
	case failedState:
		out["FailureReason"], out["CompletedTimestamp"] = a.Reason, epoch(a.Due)
	}
	return out
}

// checkFailures refuses reasons that the API does not have.
func checkFailures(failures map[string][]string) error {
	known := types.CreateAccountFailureReason("").Values()
	for email, reasons := range failures {
		for _, r := range reasons {
			if !slices.Contains(known, types.CreateAccountFailureReason(r)) {
				return fmt.Errorf("reading the failures of %q: %q is no reason of CreateAccount's", email, r)
			}
		}
	}
	return nil
}

// notForMembers refuses what Organizations answers to the management account
// alone: moto answers a member with an empty list. The sandbox knows no
// delegated administrators.
func (f *Front) notForMembers(c *call) *apiError {
	m, err := f.membershipOf(c.r.Context(), c.caller.Account)
	switch {
	case err != nil:
		return internal(err)
	case m.organization == "" || m.master == c.caller.Account || c.action == "DescribeOrganization":
		return nil
	case c.action == "CreateOrganization":
		return refuse(http.StatusBadRequest, "AlreadyInOrganizationException", "The AWS account is already a member of an organization.")
	}
	return refuse(http.StatusBadRequest, "AccessDeniedException", "You don't have permissions to access this resource.")
}

// serveOrganizations answers the calls on the making of accounts, refuses a
// member what is not its to ask, and sees to it that accounts whose time has
// come are there. It reports false for a call that is moto's.
func (f *Front) serveOrganizations(c *call) bool {
	f.creating.Lock()
	defer f.creating.Unlock()
	ctx, done := detached(c.r.Context()) // whoever calls finishes the accounts of others
	defer done()
	if refused := f.finishAccounts(ctx); refused != nil {
		c.fail(refused)
		return true
	}
	if refused := f.notForMembers(c); refused != nil {
		c.fail(refused)
		return true
	}
	handlers := map[string]func(*call) (any, *apiError){
		"CreateAccount": f.createAccount, "DescribeCreateAccountStatus": f.creationStatus, "ListCreateAccountStatus": f.creationList,
	}
	handler, ok := handlers[c.action]
	if !ok || c.caller.Account != f.cfg.ManagementAccount {
		return false
	}
	answer, refused := handler(c)
	if refused != nil {
		c.fail(refused)
		return true
	}
	writeJSON(c.w, http.StatusOK, answer)
	return true
}

func (f *Front) createAccount(c *call) (any, *apiError) {
	if _, err := f.moto.organizations(c.caller.Account).DescribeOrganization(c.r.Context(), nil); err != nil {
		if hasCode(err, "AWSOrganizationsNotInUseException") {
			return nil, refuse(http.StatusBadRequest, "AWSOrganizationsNotInUseException", "Your account is not a member of an organization.")
		}
		return nil, internal(err)
	}
	a := creation{ID: "car-" + strings.ReplaceAll(requestID(), "-", ""), Name: c.param("AccountName"), Email: c.param("Email"),
		Role: cmp.Or(c.param("RoleName"), "OrganizationAccountAccessRole"), Tags: c.tags(), Requested: f.now().UTC(), State: inProgress}
	if a.Name == "" || len(a.Name) > 50 || len(a.Email) < 6 || len(a.Email) > 64 || strings.Count(a.Email, "@") != 1 {
		return nil, refuse(http.StatusBadRequest, "InvalidInputException", "You provided invalid values for one or more of the request parameters: accountName has 1 to 50 characters, email 6 to 64 with one @.")
	}
	a.Due = a.Requested.Add(time.Duration(f.settings.get().AccountCreation))
	refused := f.store.change(func(d *data) *apiError {
		running := 0
		for _, other := range d.Accounts {
			if other.State == inProgress {
				running++
			}
		}
		if running >= maxCreations {
			return &apiError{status: http.StatusBadRequest, code: "ConstraintViolationException", reason: "ACCOUNT_CREATION_RATE_LIMIT_EXCEEDED",
				message: "You have exceeded the number of accounts that can be in progress at a time."}
		}
		d.Accounts[a.ID] = a
		return nil
	})
	return map[string]any{"CreateAccountStatus": a.shown()}, refused
}

// finishAccounts makes the accounts whose time has come, or lets them fail.
func (f *Front) finishAccounts(ctx context.Context) *apiError {
	var due []creation
	f.store.read(func(d *data) {
		for _, a := range d.Accounts {
			if a.State == inProgress && !f.now().Before(a.Due) {
				due = append(due, a)
			}
		}
	})
	slices.SortFunc(due, func(a, b creation) int { return a.Requested.Compare(b.Requested) })
	for _, a := range due {
		if refused := f.finishAccount(ctx, a); refused != nil {
			return refused
		}
	}
	return nil
}

// finishAccount makes one account, or lets it fail. Each step is kept before
// the next, so that after an error the next call goes on from there.
func (f *Front) finishAccount(ctx context.Context, a creation) *apiError {
	if a.Account == "" {
		if err := f.makeAccount(ctx, &a); err != nil {
			return internal(err)
		}
		if refused := f.keep(a); refused != nil || a.State == failedState {
			return refused
		}
	}
	if err := f.openAccount(ctx, a); err != nil {
		return internal(err)
	}
	a.State = succeeded
	return f.keep(a)
}

func (f *Front) keep(a creation) *apiError {
	return f.store.change(func(d *data) *apiError { d.Accounts[a.ID] = a; return nil })
}

// makeAccount makes the account, and finds the one that an earlier try has
// made without the front's knowing.
func (f *Front) makeAccount(ctx context.Context, a *creation) error {
	have, err := f.accountOf(ctx, a.Email)
	if err != nil {
		return err
	}
	switch {
	case have == "":
		a.Reason = f.settings.nextFailure(a.Email)
	case f.claimed(have):
		a.Reason = string(types.CreateAccountFailureReasonEmailAlreadyExists)
	default:
		a.Account = have
		return nil
	}
	if a.Reason != "" {
		a.State = failedState
		return nil
	}
	in := &organizations.CreateAccountInput{AccountName: &a.Name, Email: &a.Email, RoleName: &a.Role}
	for k, v := range a.Tags {
		in.Tags = append(in.Tags, types.Tag{Key: &k, Value: &v})
	}
	out, err := f.moto.organizations(f.cfg.ManagementAccount).CreateAccount(ctx, in)
	if err != nil {
		return fmt.Errorf("making the account %q: %w", a.Name, err)
	}
	a.Account = aws.ToString(out.CreateAccountStatus.AccountId)
	return nil
}

// openAccount gives the role of a new account the rights of an administrator,
// as Organizations does; moto's has none.
func (f *Front) openAccount(ctx context.Context, a creation) error {
	if _, err := f.moto.iam(a.Account).PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &a.Role, PolicyName: aws.String(adminPolicyName), PolicyDocument: aws.String(adminPolicy)}); err != nil {
		return fmt.Errorf("giving the role %q its rights: %w", a.Role, err)
	}
	f.views.forget(memberships)
	f.views.forget(viewOf(a.Account, "role", a.Role))
	if wait := time.Duration(f.settings.get().AccountEntry); wait > 0 {
		f.views.delay(viewOf(a.Account, "role", a.Role), view{}, f.now().Add(wait))
	}
	return nil
}

// accountOf returns the account with the address, "" where there is none.
func (f *Front) accountOf(ctx context.Context, email string) (string, error) {
	pages := organizations.NewListAccountsPaginator(f.moto.organizations(f.cfg.ManagementAccount), &organizations.ListAccountsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", fmt.Errorf("listing the accounts: %w", err)
		}
		for _, a := range page.Accounts {
			if strings.EqualFold(aws.ToString(a.Email), email) {
				return aws.ToString(a.Id), nil
			}
		}
	}
	return "", nil
}

// claimed reports whether a request has made the account, or none had to.
func (f *Front) claimed(account string) bool {
	claimed := account == f.cfg.ManagementAccount
	f.store.read(func(d *data) {
		for _, a := range d.Accounts {
			claimed = claimed || a.Account == account
		}
	})
	return claimed
}

func (f *Front) creationStatus(c *call) (any, *apiError) {
	var a creation
	var found bool
	f.store.read(func(d *data) { a, found = d.Accounts[c.param("CreateAccountRequestId")] })
	if !found {
		return nil, refuse(http.StatusBadRequest, "CreateAccountStatusNotFoundException", "You specified a create account request that doesn't exist.")
	}
	return map[string]any{"CreateAccountStatus": a.shown()}, nil
}

func (f *Front) creationList(c *call) (any, *apiError) {
	states := c.list("States")
	var all []creation
	f.store.read(func(d *data) {
		for _, a := range d.Accounts {
			if len(states) == 0 || slices.Contains(states, a.State) {
				all = append(all, a)
			}
		}
	})
	slices.SortFunc(all, func(a, b creation) int { return cmp.Or(a.Requested.Compare(b.Requested), strings.Compare(a.ID, b.ID)) })
	list := []map[string]any{}
	for _, a := range all {
		list = append(list, a.shown())
	}
	return map[string]any{"CreateAccountStatuses": list}, nil
}
