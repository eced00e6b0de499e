"""Asks the cloud of the tests with botocore, somebody else's signer.

Takes JSON: {"call": [SERVICE, OPERATION, PARAMETERS]} prints the answer;
a list of them prints a list, errors as {"error": CODE, "message": TEXT};
{"presign": CLUSTER} prints a token's URL. "tamper" names what is done to a request
after, or before, it is signed; "credentials" are those of the metadata service.
"""

import datetime
import json
import os
import sys

import botocore.auth
import botocore.awsrequest
import botocore.client
import botocore.credentials
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = "us-west-2"
KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def client(service, wish):
    given = wish.get("credentials")
    key, secret, token = KEY, SECRET, None
    if given:
        key, secret, token = given["AccessKeyId"], given["SecretAccessKey"], given["Token"]
    tamper = wish.get("tamper")
    if tamper == "key":
        key = "AKIAIOSFODNN7UNKNOWN"
    if tamper == "secret":
        secret = secret.lower()
    if tamper == "token":
        token = "made-up"
    made = botocore.session.get_session().create_client(
        service,
        region_name="eu-west-1" if tamper == "region" else REGION,
        endpoint_url=os.environ[f"AWS_ENDPOINT_URL_{service.upper()}"],
        verify=os.environ["AWS_CA_BUNDLE"],
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )
    if tamper:
        # What stands before is signed, what stands after is not.
        made.meta.events.register_first("before-sign.*.*", lambda **given: before(tamper, **given))
        made.meta.events.register("before-send.*.*", lambda **given: after(tamper, **given))
    return made


def before(tamper, request, **_):
    if tamper == "header":
        request.headers["X-Amz-Meta-Test"] = "signed"


def edit(request, old, new):
    header = request.headers["Authorization"]
    header = header.decode() if isinstance(header, bytes) else header
    assert old in header, header
    request.headers["Authorization"] = header.replace(old, new)


def after(tamper, request, **_):
    header = request.headers["Authorization"]
    header = header.decode() if isinstance(header, bytes) else header
    today = header.split("Credential=")[1].split("/")[1]
    if tamper == "signature":
        digit = header[-1]
        request.headers["Authorization"] = header[:-1] + ("0" if digit != "0" else "1")
    elif tamper == "body":
        body = request.body or b""
        request.body = (body.encode() if isinstance(body, str) else body) + b" "
        request.headers["Content-Length"] = str(len(request.body))
    elif tamper == "header":
        request.headers["X-Amz-Meta-Test"] = "changed"
    elif tamper == "unsigned-host":
        edit(request, "host;", "")
    elif tamper == "unsigned-amz-header":
        request.headers["X-Amz-Meta-Test"] = "added"
    elif tamper == "service":
        scope = header.split("/")[3]
        edit(request, f"/{scope}/aws4_request", "/s3/aws4_request")
    elif tamper == "day":
        edit(request, f"/{today}/", "/20200101/")
    elif tamper == "none":
        del request.headers["Authorization"]
    elif tamper == "date":
        del request.headers["X-Amz-Date"]
    elif tamper in ("late", "early"):
        resign(request, header, -6 if tamper == "late" else 6)


def resign(request, header, minutes):
    """Signs anew by a clock that is wrong."""
    service = header.split("/")[3]
    there = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    here = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *_, **__: there.replace(tzinfo=None)
    headers = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in request.headers.items()
        # What the transport adds is not signed.
        if name.lower() not in ("user-agent", "connection", "expect")
    }
    plain = botocore.awsrequest.AWSRequest(request.method, request.url, headers, request.body)
    for name in ("Authorization", "X-Amz-Date"):
        del plain.headers[name]
    credentials = botocore.credentials.Credentials(KEY, SECRET)
    botocore.auth.SigV4Auth(credentials, service, REGION).add_auth(plain)
    botocore.auth.get_current_datetime = here
    for name in ("Authorization", "X-Amz-Date"):
        request.headers[name] = plain.headers[name]


def call(wish):
    service, operation, parameters = wish["call"]
    answer = getattr(client(service, wish), operation)(**parameters)
    answer.pop("ResponseMetadata")
    return answer


def attempt(wish):
    try:
        return call(wish)
    except ClientError as error:
        return {"error": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}


def presign(cluster):
    url = os.environ["AWS_ENDPOINT_URL_STS"] + "/?Action=GetCallerIdentity&Version=2011-06-15"
    request = botocore.awsrequest.AWSRequest("GET", url, {"x-k8s-aws-id": cluster})
    credentials = botocore.credentials.Credentials(KEY, SECRET)
    botocore.auth.SigV4QueryAuth(credentials, "sts", REGION, expires=60).add_auth(request)
    return {"url": request.url}


wish = json.loads(sys.argv[1])
if isinstance(wish, list):
    result = [attempt(one) for one in wish]
elif "presign" in wish:
    result = presign(wish["presign"])
else:
    result = call(wish)
json.dump(result, sys.stdout, default=str)
