import Testing

@testable import RomulusHook

@Suite struct XlArgumentsTests {
    @Test(arguments: [
        "xl remus -i 50 guest host", "xl remus guest host -i50", "xl -v remus -Fi 50 guest host",
        "/usr/sbin/xl rem -Fni200 g h",
        "xl remus -s ssh -i 50 guest host",
    ]) func anIntervalIsSeen(line: String) {
        #expect(XlArguments(line.split(separator: " ").map(String.init)).hasInterval)
    }

    @Test(arguments: [
        "xl remus guest host", "xl remus -F -n guest host", "xl remus -s -i guest host",
        "xl remus -N /etc/-i guest host",
        "xl remus -- guest -i", "xl -i", "xl", "xl remus -sssh-i guest host",
    ]) func whatIsNoIntervalIsNone(line: String) {
        #expect(!XlArguments(line.split(separator: " ").map(String.init)).hasInterval)
    }

    @Test(arguments: [
        "xl remus guest host", "xl remus -Fi 50 guest -s ssh host", "xl -v remus guest -N script host",
        "xl remus -- guest host",
    ]) func theHostIsSeen(line: String) {
        #expect(XlArguments(line.split(separator: " ").map(String.init)).host == "host")
    }
}
