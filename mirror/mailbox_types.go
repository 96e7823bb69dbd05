package mirror

// mailboxType is a kind of recipient in msExchRecipientTypeDetails, which has one bit per kind. The names are
// those of Microsoft's RecipientTypeDetails enumeration. docs/active-directory.md has the same lists, with
// their source.
type mailboxType struct {
	name  string
	value int64
}

// systemTypes are the mailboxes of Exchange itself, which system_mailboxes: omit excludes.
var systemTypes = []mailboxType{
	{"SystemAttendantMailbox", 1 << 13},
	{"SystemMailbox", 1 << 14},
	{"ArbitrationMailbox", 1 << 23},
	{"MailboxPlan", 1 << 24},
	{"DiscoveryMailbox", 1 << 29},
	{"MonitoringMailbox", 1 << 39},
	{"AuditLogMailbox", 1 << 42},
	{"AuxAuditLogMailbox", 1 << 46},
	{"SupervisoryReviewPolicyMailbox", 1 << 47},
}

// disabledTypes are mailboxes that do not belong to one person. Their accounts are always disabled, so
// disabled_accounts: omit does not affect them.
var disabledTypes = []mailboxType{
	{"LinkedMailbox", 1 << 1},
	{"SharedMailbox", 1 << 2},
	{"RoomMailbox", 1 << 4},
	{"EquipmentMailbox", 1 << 5},
	{"SystemMailbox", 1 << 14},
	{"ArbitrationMailbox", 1 << 23},
	{"MailboxPlan", 1 << 24},
	{"DiscoveryMailbox", 1 << 29},
	{"RemoteRoomMailbox", 1 << 33},
	{"RemoteEquipmentMailbox", 1 << 34},
	{"RemoteSharedMailbox", 1 << 35},
	{"PublicFolderMailbox", 1 << 36},
	{"TeamMailbox", 1 << 37},
	{"RemoteTeamMailbox", 1 << 38},
	{"GroupMailbox", 1 << 40},
	{"LinkedRoomMailbox", 1 << 41},
	{"AuditLogMailbox", 1 << 42},
	{"RemoteGroupMailbox", 1 << 43},
	{"SchedulingMailbox", 1 << 44},
	{"AuxAuditLogMailbox", 1 << 46},
	{"SupervisoryReviewPolicyMailbox", 1 << 47},
}

// hasType reports whether details is one of the kinds.
func hasType(details int64, types []mailboxType) bool {
	for _, t := range types {
		if details == t.value {
			return true
		}
	}
	return false
}
