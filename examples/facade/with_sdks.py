"""An application that reads its secrets with the clients of the stores."""

from __future__ import annotations

import json

import boto3
import hvac


def load_secrets() -> dict[str, str]:
    """Return what the application connects with."""
    client = hvac.Client()  # VAULT_ADDR and VAULT_TOKEN
    answer = client.secrets.kv.v2.read_secret_version(path="team/database", raise_on_deleted_version=True)
    database = answer["data"]["data"]
    aws = boto3.client("secretsmanager", region_name="eu-west-1")
    stripe = aws.get_secret_value(SecretId="shop/stripe")["SecretString"]
    return {"user": database["user"], "password": database["password"], "stripe": stripe}


def change_stripe_key(new: str) -> None:
    """Write another key of the payment service."""
    aws = boto3.client("secretsmanager", region_name="eu-west-1")
    aws.put_secret_value(SecretId="shop/stripe", SecretString=new)


if __name__ == "__main__":
    print(json.dumps(load_secrets()))
