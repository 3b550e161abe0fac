import Foundation
import Testing

/// The shell scripts that stand in xl's place, run against stand-ins of the stock programs.
@Suite struct LauncherTests {
    let folder: TemporaryFolder
    private var installed: String { folder("romulus") }

    init() throws {
        folder = try TemporaryFolder()
        let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../Sources/Launcher").standardized.path
        try FileManager.default.createDirectory(
            atPath: folder("romulus/stock"), withIntermediateDirectories: true)
        for name in ["xl", "romulus-save-helper", "romulus-activate", "romulus-deactivate"] {
            let text = try String(contentsOfFile: "\(sources)/\(name)", encoding: .utf8)
            try write(text.replacingOccurrences(of: "@LIBDIR@", with: installed), to: "romulus/\(name)")
        }
        // Prints what a stock xl would find: its arguments and what the launcher has told it.
        let stock = "#!/bin/sh\necho \"role=${ROMULUS_ROLE:-stock} preload=${LD_PRELOAD:-none} args=$*\"\n"
        try write(stock, to: "bin/xl")
        try write("#!/bin/sh\n", to: "bin/libxl-save-helper")
        try FileManager.default.createSymbolicLink(
            atPath: folder("romulus/stock/xl"), withDestinationPath: folder("bin/xl"))
        // The loader is given a library that does nothing.
        let nothing = try Program.run(
            "/usr/bin/gcc", ["-shared", "-o", folder("romulus/libromulus.so.0"), "-x", "c", "/dev/null"])
        try #require(nothing.status == 0, "\(nothing.output)")
    }

    private func write(_ text: String, to name: String) throws {
        let path = folder(name)
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        chmod(path, 0o755)
    }

    @Test(arguments: [
        ("list", "stock"),
        ("-v remus guest host", "primary"),
        ("remus guest host", "primary"),
        ("remus -F -i 100 guest host", "primary"),
        ("remus -Fbn -i 100 guest host", "primary"),
        ("remus -s c guest host", "primary"),
        ("remus -Fs c guest host", "primary"),
        ("remus -sscript guest host", "primary"),
        ("remus -Fsscript guest host", "primary"),
        ("rem guest host", "primary"),
        ("remus -Fcs x guest host", "stock"),
        ("remus -N c -s c guest host", "primary"),
        ("remus -F -i 100 -u -n -d -b -e guest host", "primary"),
        ("remus -- -c host", "primary"),
        ("-vvv -f -t remus guest host", "primary"),
        ("remus -N /script guest host", "primary"),
        ("remus -c guest host", "stock"),
        ("remus -pc guest host", "stock"),
        ("remus -F -c guest host", "stock"),
        ("remus -s c -c guest host", "stock"),
        ("remus guest host -c", "stock"),
        ("migrate-receive -r", "backup"),
        ("migrate-receive -r  -e", "backup"),
        ("migrate-receive -re", "backup"),
        ("migrate-receive", "keeper"),
        ("migrate-receive -e", "keeper"),
        ("migrate-receive --colo", "keeper"),
        ("migrate-receive --colo --coloft-script /etc/rc", "keeper"),
        ("migrate guest host", "stock"),
        ("create -c guest.cfg", "keeper"),
        ("-v cr guest.cfg", "keeper"),
        ("restore -e file", "keeper"),
        ("rest file", "keeper"),
        ("reboot guest", "stock"),
        ("console guest", "stock"),
    ]) func onlyWhatProtectsOrKeepsGetsTheLibrary(command: String, role: String) throws {
        let result = try Program.run("\(installed)/xl", command.split(separator: " ").map(String.init))
        let preload = role == "stock" ? "none" : "\(installed)/libromulus.so.0"
        let words = command.split(separator: " ").joined(separator: " ")
        #expect(result.output == "role=\(role) preload=\(preload) args=\(words)\n")
    }

    @Test func whatTheAdminPreloadsStays() throws {
        let result = try Program.run(
            "\(installed)/xl", ["remus", "g", "h"], ["LD_PRELOAD": "\(installed)/libromulus.so.0"])
        #expect(result.output.contains("preload=\(installed)/libromulus.so.0:\(installed)/libromulus.so.0 "))
    }

    @Test func aMissingLibraryLeavesStockXlWithOneLineThatSaysWhy() throws {
        try FileManager.default.removeItem(atPath: folder("romulus/libromulus.so.0"))
        let lines = try Program.run("\(installed)/xl", ["remus", "g", "h"]).output.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines[0].hasPrefix("romulus: \(installed)/libromulus.so.0 is missing"))
        #expect(lines[1] == "role=stock preload=none args=remus g h")
        #expect(try Program.run("\(installed)/xl", ["list"]).output == "role=stock preload=none args=list\n")
    }

    private static let usualHelpers = ["/usr/lib/xen", "/usr/libexec/xen", "/usr/local/lib/xen"].map {
        $0 + "/bin/libxl-save-helper"
    }

    @Test(.enabled(if: !usualHelpers.contains(where: FileManager.default.fileExists)))
    func aMissingHelperLeavesStockXlWithOneLineThatSaysWhy() throws {
        try FileManager.default.removeItem(atPath: folder("bin/libxl-save-helper"))
        let lines = try Program.run("\(installed)/xl", ["migrate-receive", "-r"]).output.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines[0].hasPrefix("romulus: libxl-save-helper was not found"))
        #expect(lines[1] == "role=stock preload=none args=migrate-receive -r")
    }

    @Test func activatingAndDeactivatingTwiceIsActivatingAndDeactivatingOnce() throws {
        let xl = folder("bin/xl")
        let original = try String(contentsOfFile: xl, encoding: .utf8)
        let environment = ["ROMULUS_XL": xl]
        for _ in 0..<2 {
            let result = try Program.run("\(installed)/romulus-activate", [], environment)
            #expect(result.status == 0, "\(result.output)")
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: xl) == "\(installed)/xl")
            #expect(try Program.run(xl, ["list"]).output == "role=stock preload=none args=list\n")
            #expect(try Program.run(xl, ["remus", "g", "h"]).output.hasPrefix("role=primary "))
        }
        for _ in 0..<2 {
            let result = try Program.run("\(installed)/romulus-deactivate", [], environment)
            #expect(result.status == 0, "\(result.output)")
            #expect(try String(contentsOfFile: xl, encoding: .utf8) == original)
            #expect(!FileManager.default.fileExists(atPath: xl + ".romulus-stock"))
        }
    }

    /// Without dpkg an upgrade of Xen puts its new xl over the launcher; the old one is still aside.
    @Test func deactivatingDoesNotPutAnOldXlOverANewerOne() throws {
        let xl = folder("bin/xl")
        let environment = ["ROMULUS_XL": xl]
        #expect(try Program.run("\(installed)/romulus-activate", [], environment).status == 0)
        try FileManager.default.removeItem(atPath: xl)
        try write("#!/bin/sh\necho newer\n", to: "bin/xl")
        #expect(try Program.run("\(installed)/romulus-deactivate", [], environment).status == 0)
        #expect(try Program.run(xl, []).output == "newer\n")
        #expect(!FileManager.default.fileExists(atPath: xl + ".romulus-stock"))
    }
}
