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
}
