# Exports all recipients of an Exchange Online organization as JSON, without a user (app-only).
# It needs the module ExchangeOnlineManagement, an app registration with Exchange.ManageAsApp and the
# role "View-Only Recipients", and its certificate. See docs/active-directory.md, "Exchange Online".
param(
  [Parameter(Mandatory)] [string] $AppId,
  [Parameter(Mandatory)] [string] $Organization,          # such as example.onmicrosoft.com
  [Parameter(Mandatory)] [string] $CertificateFilePath,
  [Parameter(Mandatory)] [string] $OutFile
)
$ErrorActionPreference = 'Stop'
Connect-ExchangeOnline -AppId $AppId -Organization $Organization -CertificateFilePath $CertificateFilePath `
  -ShowBanner:$false
try {
  $started = (Get-Date).ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ')
  # Get-EXORecipient has dynamic distribution groups and public folders, which Microsoft Graph lacks.
  $recipients = @(Get-EXORecipient -ResultSize Unlimited -Properties EmailAddresses, RecipientTypeDetails |
    ForEach-Object {
      [ordered]@{ type = [string]$_.RecipientTypeDetails; addresses = @($_.EmailAddresses | ForEach-Object { [string]$_ }) }
    })
  # count lets the reader notice a file that is not complete.
  $export = [ordered]@{ exported = $started; count = $recipients.Count; recipients = $recipients }
  $export | ConvertTo-Json -Depth 4 -Compress | Set-Content -Encoding utf8 -Path "$OutFile.new"
  Move-Item -Force "$OutFile.new" $OutFile
} finally {
  Disconnect-ExchangeOnline -Confirm:$false
}
