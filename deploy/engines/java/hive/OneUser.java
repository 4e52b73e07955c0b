package egpu.engines;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import javax.security.sasl.AuthenticationException;
import org.apache.hadoop.conf.Configurable;
import org.apache.hadoop.conf.Configuration;
import org.apache.hive.service.auth.PasswdAuthenticationProvider;

/** Lets one user in, with one password, both from hive-site.xml: enough to see a refused login without LDAP. */
public final class OneUser implements PasswdAuthenticationProvider, Configurable {
  private Configuration configuration = new Configuration(false);

  @Override
  public void setConf(Configuration read) {
    configuration = read;
  }

  @Override
  public Configuration getConf() {
    return configuration;
  }

  @Override
  public void Authenticate(String user, String password) throws AuthenticationException {
    if (!isEqual("egpu.engines.user", user) || !isEqual("egpu.engines.password", password)) {
      throw new AuthenticationException("user or password is wrong");
    }
  }

  private boolean isEqual(String name, String given) {
    String wanted = configuration.get(name, "");
    return !wanted.isEmpty()
        && given != null
        && MessageDigest.isEqual(wanted.getBytes(StandardCharsets.UTF_8), given.getBytes(StandardCharsets.UTF_8));
  }
}
