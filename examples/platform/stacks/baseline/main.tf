# What every account of the landscape has. It uses terraform_data, which
# records values in the state and needs no provider, so that the chain can be
# tried before the first real resource is paid for.

terraform {
  required_version = ">= 1.10.0"

  # Left empty: bucket, key, encryption and lock come from the landscape.
  backend "s3" {}
}

resource "terraform_data" "account" {
  input = {
    account = var.account
    region  = var.region
  }
}

resource "terraform_data" "naming" {
  input            = "${var.landscape}-${var.account}"
  triggers_replace = [var.account]
}
