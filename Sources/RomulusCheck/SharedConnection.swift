import RomulusHost

/// Where ssh would share a connection with others (ControlMaster): whoever ends it ends protection.
public enum SharedConnection {
    /// - Returns: the control socket that ssh would use for that host, or nil.
    public static func path(to host: String, ssh: String = "ssh") -> String? {
        let outcome = Subprocess.run([ssh, "-G", "--", host], isErrorApart: true, timeoutMilliseconds: 10_000)
        return outcome.status == 0 ? path(in: outcome.output) : nil
    }

    static func path(in settings: String) -> String? {
        for line in settings.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1)
            if words.count == 2, words[0] == "controlpath", words[1] != "none" { return String(words[1]) }
        }
        return nil
    }
}
