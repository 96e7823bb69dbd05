package directory

// classComputer is the class of machines. It is a kind of user, and no recipient.
const classComputer = "computer"

// RecipientClasses returns the classes, in lower case, whose objects may own addresses, the most
// specific first. inetOrgPerson is a kind of user. Reads request these classes and
// ContainerClasses only, so an object of another class is never seen.
func RecipientClasses() []string {
	return []string{"publicfolder", "msexchdynamicdistributionlist", "group", "contact", "user"}
}

// ContainerClasses returns the classes, in lower case, of the containers that hold such objects.
func ContainerClasses() []string { return []string{"organizationalunit", "container"} }
