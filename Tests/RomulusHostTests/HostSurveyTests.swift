import Glibc
import RomulusCore
import Testing

@testable import RomulusCheck
@testable import RomulusHost

@Suite struct HostSurveyTests {
    private let folder = TestFolder()

    private func activation() -> HostReport.Activation { HostSurvey.activation(path: "/nonexistent::\(folder("bin"))") }

    @Test func romulusIsActiveWhereTheFirstXlIsItsLauncherAndNothingIsMissing() throws {
        for name in ["bin", "romulus", "romulus/stock"] { mkdir(folder(name), 0o755) }
        #expect(activation() == .absent)
        try folder.write("bin/xl", "#!/bin/sh\n", mode: 0o755)
        #expect(activation() == .inactive)
        unlink(folder("bin/xl"))
        symlink(folder("elsewhere"), folder("bin/xl"))
        try folder.write("elsewhere", "#!/bin/sh\n", mode: 0o755)
        #expect(activation() == .inactive)
        unlink(folder("bin/xl"))
        symlink(folder("romulus/xl"), folder("bin/xl"))
        try folder.write("romulus/xl", "#!/bin/sh\n", mode: 0o755)
        #expect(activation() == .broken)
        try folder.write("romulus/stock/xl", "#!/bin/sh\n", mode: 0o755)
        #expect(activation() == .broken)
        try folder.write("romulus/libromulus.so.0", "")
        #expect(activation() == .active)
    }

    @Test func eachModuleThatModinfoDoesNotFindIsNamed() throws {
        try folder.write("modinfo", "#!/bin/sh\ncase $3 in sch_plug | ifb) exit 1 ;; esac\n", mode: 0o755)
        let problems = HostSurvey.moduleProblems(modinfo: folder("modinfo"))
        #expect(problems.count == 1 && problems[0].contains("has no module ifb, sch_plug: install"), "\(problems)")
        try folder.write("modinfo", "#!/bin/sh\n", mode: 0o755)
        #expect(HostSurvey.moduleProblems(modinfo: folder("modinfo")).isEmpty)
        #expect(
            HostSurvey.moduleProblems(modinfo: folder("none")) == [
                "\(folder("none")) is missing, so kernel modules cannot be looked for: install kmod"
            ])
    }

    @Test func theSettingsComeWithTheArbitersTest() throws {
        try folder.write(
            "agent", "#!/bin/sh\nwhile read -r line; do case $line in action=status) exit 2 ;; esac; done\n",
            mode: 0o755)
        try folder.write(
            "romulus.conf",
            "arbiter = \"fence\"\nfence_agent = \"\(folder("agent"))\"\ndetect_timeout_ms = 250\npage_cache_mib = 7\n")
        let settings = try #require(HostSurvey.settings(folder("romulus.conf")).value)
        #expect(settings.arbiter == .fence && settings.detectTimeoutMilliseconds == 250 && settings.pageCacheMiB == 7)
        #expect(settings.arbiterTest.map(\.isProblem) == [false, true])
        let asked = RunPeer(name: "hostb", connection: PeerConnection(sshConnection: "10.0.0.2 51234 10.0.0.1 22"))
        let toPeer = try #require(HostSurvey.settings(folder("romulus.conf"), peer: asked).value)
        #expect(
            toPeer.fenceOrder == .first
                && toPeer.arbiterTest.last == .ok("fence_options is for hostb, and this host goes first"))
        try folder.write("romulus.conf", "arbitre = \"fence\"\n")
        #expect(
            HostSurvey.settings(folder("romulus.conf"))
                == .unknown("\(folder("romulus.conf")):1: unknown key `arbitre': correct it, nothing starts before"))
    }

    /// As on this machine, whatever it is: a report comes out, and can be read.
    @Test func aReportComesOutOfAnyHost() throws {
        let lines = HostSurvey.report(settingsPath: "/nonexistent").text.split(separator: "\n").map(String.init)
        let report = try HostReport(lines: Array(lines.dropFirst().dropLast()))
        #expect(report.settings.value?.arbiter == ArbiterKind.none)
        let available = try #require(report.dom0AvailableKiB)
        #expect(available > 0)
    }

    @Test func xlTakesFromDom0AsItDecidesItself() {
        func takes(_ setting: String?, _ commandLine: String = "com1=115200 dom0_mem=768M,max:768M") -> Bool {
            Toolstack.takesFromDom0(commandLine: commandLine, setting: setting)
        }
        #expect(!takes(nil) && !takes("auto") && takes("on") && takes("1"))
        #expect(takes(nil, "com1=115200") && !takes("off", "") && !takes("0", ""))
    }

    @Test func aSharedConnectionIsOneWithAControlPath() throws {
        #expect(SharedConnection.path(in: "host b\ncontrolmaster auto\ncontrolpath /r/cm b\n") == "/r/cm b")
        #expect(SharedConnection.path(in: "controlmaster auto\ncontrolpath none\n") == nil)
        #expect(SharedConnection.path(in: "controlmaster false\ncontrolpersist no\n") == nil)
        try folder.write("ssh", "#!/bin/sh\n[ \"$*\" = '-G -- hostb' ] && echo controlpath /x\n", mode: 0o755)
        #expect(SharedConnection.path(to: "hostb", ssh: folder("ssh")) == "/x")
    }

    @Test func aGuestThatIsStartedAtBootIsFoundByItsNameInTheFile() throws {
        try folder.write("10-web.cfg", "# name = \"no\"\nname = 'web'\nmemory = 64\n")
        try folder.write("db", "type = 'pvh'\n")
        try folder.write("broken", "name = = [\n")
        #expect(AutoStart.file(of: "web", directory: folder.path) == folder("10-web.cfg"))
        #expect(AutoStart.file(of: "db", directory: folder.path) == folder("db"))
        #expect(AutoStart.file(of: "no", directory: folder.path) == nil)
        #expect(AutoStart.file(of: "web", directory: "/nonexistent") == nil)
    }

    @Test func aLookIsOneLineAndAnswersForThisHost() throws {
        #expect(HostLook(.network, "lo").isSo() && !HostLook(.network, "../lo").isSo())
        #expect(HostLook(.program, "/bin/sh").isSo() && !HostLook(.program, "sh").isSo())
        #expect(HostLook(.file, "/etc/passwd").isSo() && !HostLook(.file, "/nonexistent").isSo())
        let look = HostLook(.file, "/a b")
        #expect(HostLook(line: try #require(look.line)) == look)
        #expect(HostLook(.file, "a\nb").line == nil && HostLook(line: "look at this") == nil)
    }

    @Test func aSessionMayStillTakeWhatItHasNotTaken() {
        func left(_ text: String) -> UInt64 { HostSurvey.stillTakenKiB(JSON(parsing: text)!) }
        #expect(left(#"{"buffers_kib": 1073741824, "pid": \#(getpid())}"#) > 1 << 29)
        #expect(left(#"{"buffers_kib": 1, "pid": \#(getpid())}"#) == 0)
        #expect(left(#"{"pid": 1}"#) == 0)
    }
}
