#!/usr/bin/env bash
# deploy/aws_prepare.sh REGION BUCKET SSH_RANGE    e.g. eu-central-1 my-bucket 198.51.100.7/32
#
# Once per account: the bucket, two instance profiles and a security group, and what to write into cluster.yaml.
# Needs the AWS CLI with an administrator's credentials. Safe to run again.
#
# The security group must be there before `ray up`: to one that it makes itself Ray adds SSH from the whole internet,
# whatever cluster.yaml says; one that has rules it leaves alone.
set -euo pipefail
[ $# -eq 3 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
region=$1 bucket=$2 ssh_range=$3
case $ssh_range in 0.0.0.0/0 | ::/0) echo "SSH from everywhere is not what you want: $ssh_range" >&2; exit 2 ;; esac
policies=$(cd "$(dirname "$0")/../docs/cluster/aws" && pwd)
export AWS_DEFAULT_REGION=$region AWS_PAGER=
account=$(aws sts get-caller-identity --query Account --output text)

# The bucket: private, versioned (a deleted model or artefact can be had back for 30 days), unfinished uploads removed.
if ! aws s3api head-bucket --bucket "$bucket" >/dev/null 2>&1; then
  if [ "$region" = us-east-1 ]; then  # the one region that must not be named
    aws s3api create-bucket --bucket "$bucket" >/dev/null
  else
    aws s3api create-bucket --bucket "$bucket" --create-bucket-configuration "LocationConstraint=$region" >/dev/null
  fi
fi
aws s3api put-public-access-block --bucket "$bucket" --public-access-block-configuration \
  BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true
aws s3api put-bucket-versioning --bucket "$bucket" --versioning-configuration Status=Enabled
aws s3api put-bucket-lifecycle-configuration --bucket "$bucket" --lifecycle-configuration '{"Rules": [{
  "ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
  "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}]}' >/dev/null

# Workers may use the bucket; the head may also start and end workers.
for name in affectgrid-node affectgrid-head; do
  aws iam get-role --role-name $name >/dev/null 2>&1 ||
    aws iam create-role --role-name $name --assume-role-policy-document "file://$policies/trust.json" >/dev/null
  aws iam put-role-policy --role-name $name --policy-name bucket \
    --policy-document "$(sed "s/BUCKET/$bucket/" "$policies/bucket-policy.json")"
  aws iam get-instance-profile --instance-profile-name $name >/dev/null 2>&1 || {
    aws iam create-instance-profile --instance-profile-name $name >/dev/null
    aws iam add-role-to-instance-profile --instance-profile-name $name --role-name $name
  }
done
aws iam put-role-policy --role-name affectgrid-head --policy-name workers \
  --policy-document "$(sed "s/ACCOUNT/$account/" "$policies/head-policy.json")"
aws iam create-service-linked-role --aws-service-name spot.amazonaws.com >/dev/null 2>&1 || true  # once per account

# SSH from your range; everything between the cluster's own nodes; nothing else comes in.
vpc=$(aws ec2 describe-vpcs --filters Name=is-default,Values=true --query 'Vpcs[0].VpcId' --output text)
group=$(aws ec2 describe-security-groups --filters Name=group-name,Values=affectgrid "Name=vpc-id,Values=$vpc" \
  --query 'SecurityGroups[0].GroupId' --output text)
if [ "$group" = None ]; then
  group=$(aws ec2 create-security-group --group-name affectgrid --vpc-id "$vpc" \
    --description "affectgrid: SSH from one range, all between its nodes" --query GroupId --output text)
  aws ec2 authorize-security-group-ingress --group-id "$group" --protocol all --source-group "$group" >/dev/null
fi
aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 22 --cidr "$ssh_range" >/dev/null 2>&1 ||
  aws ec2 describe-security-groups --group-ids "$group" --query 'SecurityGroups[0].IpPermissions[].IpRanges[].CidrIp' \
    --output text | tr '\t' '\n' | grep -qxF "$ssh_range" || { echo "EC2 refuses the range $ssh_range" >&2; exit 1; }

image() {  # the newest id of an image in this region
  aws ssm get-parameter --name "$1" --query Parameter.Value --output text 2>/dev/null || echo "look up $1"
}
echo "write into cluster.yaml:"
echo "  region               $region"
echo "  AFFECTGRID_OUT       s3://$bucket/affectgrid"
echo "  SecurityGroupIds     $group"
echo "  ImageId (no GPU)     $(image /aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id)"
echo "  ImageId (GPU)        $(image /aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id)"
